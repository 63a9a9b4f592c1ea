from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifacts import layout
from artifacts.backends import Backend
from artifacts.errors import DataError
from artifacts.listing import listing
from artifacts.store import Store


def test_every_version_with_aliases_and_summary(make, store: Store) -> None:
    first = make.commit(config={"a": 1}, files={"x": b"1"}, metrics={"val_bpb": 1.5}, key_metric="val_bpb")
    make.commit(config={"a": 2}, files={"x": b"22"})
    make.commit(config={"a": 3}, files={"x": b"3"}, name="other")
    store.set_alias("base/demo@v1", "prod")
    found = listing(store)
    assert [(str(item.ref), item.aliases) for item in found] == [
        ("base/demo@v1", ("prod",)), ("base/demo@v2", ("latest",)), ("base/other@v1", ("latest",)),
    ]  # fmt: skip
    summary = found[0].summary
    assert found[0].digest == first.manifest.digest
    assert (summary.created, summary.bytes) == (first.manifest.created, first.manifest.total_bytes)
    assert (summary.key_metric, summary.value) == ("val_bpb", 1.5)
    assert [str(item.ref) for item in listing(store, "base", "other")] == ["base/other@v1"]
    assert [str(item.ref) for item in listing(store, None, "other")] == ["base/other@v1"]
    assert listing(store, "rl") == []


def test_the_tenth_version_comes_after_the_ninth(make, store: Store) -> None:
    for number in range(11):
        make.commit(config={"a": number}, files={"x": str(number).encode()})
    assert [item.ref.version for item in listing(store)] == list(range(1, 12))


@pytest.mark.parametrize("summary", [None, {"new": 1}, {"created": 1, "bytes": "x"}, "text", []])
def test_a_record_without_a_summary_that_is_known_is_read_through(make, store: Store, summary) -> None:
    made = make.commit(files={"x": b"1"})
    _edit(store, "base/demo@v1", summary)
    (item,) = listing(store)
    assert item.summary.bytes == made.manifest.total_bytes


def test_a_damaged_record_is_named(make, store: Store) -> None:
    make.commit(files={"x": b"1"})
    store.backend.put(layout.version("base", "demo", 1), b"{}")
    with pytest.raises(DataError, match=r"names/base/demo/v1\.json is damaged"):
        listing(store)


def test_a_wrong_summary_is_found_and_mended(make, store: Store) -> None:
    made = make.commit(files={"x": b"1"})
    summary = {"created": made.manifest.created, "bytes": 7, "key_metric": "", "value": None}
    _edit(store, "base/demo@v1", summary)
    (problem,) = store.verify()
    assert str(problem) == "base/demo@v1: is listed with a summary that is not its manifest's"
    make.commit(files={"x": b"1"})
    assert store.verify() == []
    assert listing(store)[0].summary.bytes == made.manifest.total_bytes


def test_of_a_bucket_only_what_changed_is_read_again(
    backend: Backend, make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    store = Store(backend)
    there = type(make)(store, tmp_path / "payloads", make.draft)
    there.commit(config={"a": 1}, files={"x": b"1"})
    there.commit(config={"a": 2}, files={"x": b"2"})
    assert [str(item.ref) for item in listing(store)] == ["base/demo@v1", "base/demo@v2"]
    if not backend.url.startswith("s3://"):
        assert not (tmp_path / "home/cache/records").exists()
        return
    asked: list[str] = []
    get_many = backend.get_many

    def noted(keys):
        asked.extend(keys)
        return get_many(keys)

    monkeypatch.setattr(backend, "get_many", noted)
    before = listing(store)
    assert asked == []
    store.set_alias("base/demo@v1", "prod")
    assert listing(store)[0].aliases == ("prod",)
    assert asked == ["aliases/base/demo/prod.json"]
    assert store.gc().removed == ()  # writes the index
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "elsewhere"))
    asked.clear()
    assert [item.aliases for item in listing(store)] == [("prod",), ("latest",)]
    assert asked == []
    store.backend.put("index.json", b"damaged")
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "third"))
    assert [item.digest for item in listing(store)] == [item.digest for item in before]
    assert len(asked) == 4
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    (kept,) = (tmp_path / "home/cache/records").iterdir()
    kept.write_text("{damaged", encoding="utf-8")
    assert [item.digest for item in listing(store)] == [item.digest for item in before]


def _edit(store: Store, ref: str, summary: object) -> None:
    version = store.names.find(ref).ref
    key = layout.version(version.kind, version.name, version.version or 0)
    record = json.loads(store.backend.get(key) or b"")
    record.pop("summary")
    store.backend.put(key, layout.encode(record | ({} if summary is None else {"summary": summary})))
