from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import DataError, ResourceError
from artifacts.pins import pin_of, pins
from artifacts.ref import ArtifactRef
from artifacts.retention import Rules
from artifacts.store import Store

V1 = ArtifactRef("base", "demo", version=1)


def test_a_pin_is_set_read_changed_and_removed(make, store: Store, root: Path) -> None:
    digest = make.commit().manifest.digest
    assert pin_of(store, V1) is None
    made = store.pin("base/demo", "for the paper")
    assert (made.ref, made.digest, made.note) == (V1, digest, "for the paper")
    assert (root / "pins/base/demo/v1.json").is_file()
    assert pin_of(store, V1) == made
    assert store.pin("base/demo@v1", "other").note == "other"
    assert [pin.note for pin in pins(store)] == ["other"]
    assert store.verify() == []
    assert store.unpin("base/demo") == V1
    assert list(pins(store)) == []


def test_a_note_holds_no_secret(make, store: Store) -> None:
    make.commit()
    assert "hf_" not in store.pin("base/demo", "made with hf_" + "a" * 20).note


def test_what_is_not_there_is_not_pinned(make, store: Store) -> None:
    with pytest.raises(ResourceError, match="no artifact base/demo@latest"):
        store.pin("base/demo")
    make.commit()
    with pytest.raises(ResourceError, match="base/demo@v1 is not pinned"):
        store.unpin("base/demo")


def test_a_damaged_pin_is_reported_stops_gc_rules_and_is_mended(make, store: Store, root: Path) -> None:
    make.commit()
    store.pin("base/demo")
    for text in ("", "{}", '{"digest":"x","time":"","note":""}', "[]"):
        (root / "pins/base/demo/v1.json").write_text(text)
        (problem,) = store.verify(deep=False)
        assert problem.ref == "the pin of base/demo@v1"
        with pytest.raises(DataError):
            store.gc(rules=Rules(keep_last=1))
    store.pin("base/demo")
    assert store.verify() == []


def test_a_dangling_pin_and_a_stray_file_are_reported(make, store: Store, root: Path) -> None:
    make.commit({"m": b"1"})
    make.commit({"m": b"2"}, config={"x": 1})
    store.pin("base/demo@v1")
    pointer = root / "names/base/demo/v1.json"
    pointer.write_bytes((root / "names/base/demo/v2.json").read_bytes())
    found = [problem.what for problem in store.verify()]
    assert found == ["shows another artifact as v1", "that artifact is another one now"]
    pointer.unlink()
    assert [problem.what for problem in store.verify()] == ["that artifact is gone"]
    assert str(store.unpin("base/demo@v1")) == "base/demo@v1"
    (root / "pins/base/demo/notes").write_text("x")
    assert [problem.what for problem in store.verify()] == ["is no pin"]
    assert store.gc().removed == ()
