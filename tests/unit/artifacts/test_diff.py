from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from artifacts.diff import SECTIONS, diff
from artifacts.errors import ResourceError
from artifacts.fingerprint import recipe, sha256_json
from artifacts.manifest import Hardware, Provenance
from artifacts.store import Store


def empty(found: dict, *but: str) -> bool:
    return all(not found[section] for section in SECTIONS if section not in but)


def test_an_artifact_does_not_differ_from_itself(make, store: Store) -> None:
    manifest = make.commit().manifest
    found = diff(store, "base/demo", "base/demo@v1")
    head = {
        "ref": "base/demo@v1", "stage": "base", "digest": manifest.digest,
        "fingerprint": manifest.fingerprint,
    }  # fmt: skip
    assert found == {"a": head, "b": head, **{section: {} for section in SECTIONS}}


def test_config_fields_carry_dotted_names(make, store: Store) -> None:
    make.commit({"a": b"1"}, config={"depth": 4, "lr": {"matrix": 0.02, "head": 1}, "old": None})
    make.commit(
        {"a": b"1"}, config={"depth": 6, "lr": {"matrix": 0.03, "head": 1}, "new": True}, name="other"
    )
    found = diff(store, "base/demo", "base/other")
    assert found["config"] == {
        "depth": {"a": 4, "b": 6}, "lr.matrix": {"a": 0.02, "b": 0.03}, "new": {"a": None, "b": True},
        "old": {"a": None, "b": None},
    }  # fmt: skip
    assert empty(found, "config")


def test_inputs_differ_by_digest_not_by_name(make, store: Store, parent_of: Callable) -> None:
    one, same = (make.commit({"t": b"t"}, stage="t", name=name) for name in ("one", "same"))
    two = make.commit({"t": b"two"}, stage="t", config={"x": 1}, name="two")
    make.commit({"a": b"1"}, parents=(parent_of(one, "t"), parent_of(one, "left")))
    make.commit({"a": b"1"}, config={"x": 1}, name="b", parents=(parent_of(same, "t"),))
    make.commit({"a": b"1"}, config={"x": 2}, name="c", parents=(parent_of(two, "t"), parent_of(two, "new")))
    side = {"ref": "t/one@v1", "digest": one.manifest.digest}
    other = {"ref": "t/two@v1", "digest": two.manifest.digest}
    assert diff(store, "base/demo", "base/b")["inputs"] == {"left": {"a": side, "b": None}}
    assert diff(store, "base/demo", "base/c")["inputs"] == {
        "left": {"a": side, "b": None}, "new": {"a": None, "b": other}, "t": {"a": side, "b": other},
    }  # fmt: skip


def test_code_is_modules_and_whatever_else_made_the_recipe(make, store: Store) -> None:
    payloads = [
        recipe(
            "base", 1, {}, inputs={}, modules={"m.gpt": "1" * 64, "m.loop": "2" * 64}, extra={"rust": "3"}
        ),
        recipe(
            "base", 2, {}, inputs={}, modules={"m.gpt": "4" * 64, "m.loop": "2" * 64}, extra={"rust": "5"}
        ),
    ]
    for name, payload in zip("ab", payloads, strict=True):
        draft = make.draft().model_copy(update={"recipe": payload, "fingerprint": sha256_json(payload)})
        store.commit(draft, make.files({"a": b"1"}), name=name)
    found = diff(store, "base/a", "base/b")
    assert found["code"] == {
        "m.gpt": {"a": "1" * 64, "b": "4" * 64}, "version": {"a": 1, "b": 2},
        "extra.rust": {"a": "3", "b": "5"},
    }  # fmt: skip
    assert empty(found, "code")


def test_metrics_provenance_and_files(make, store: Store) -> None:
    left = Provenance(commit="1", command="x", versions={"torch": "2", "python": "3"}, settings={"ranks": 1})
    right = Provenance(
        commit="2", dirty="d", command="x", versions={"torch": "3", "python": "3"},
        hardware=Hardware(cpu="c", cores=2, gpus=("g",)), settings={"ranks": 2},
    )  # fmt: skip
    run = {"summary.json": b"{}"}
    make.commit({"a": b"1", "same": b"s"}, metrics={"loss": 1.5, "n": 1}, provenance=left, run=run)
    make.commit(
        {"b": b"1", "same": b"s"}, metrics={"loss": 1.25, "n": 1}, provenance=right, name="other",
        config={"x": 1}, run={"summary.json": b"[]"},
    )  # fmt: skip
    found = diff(store, "base/demo", "base/other")
    assert found["metrics"] == {"loss": {"a": 1.5, "b": 1.25}}
    assert found["provenance"] == {
        "commit": {"a": "1", "b": "2"}, "dirty": {"a": None, "b": "d"}, "hardware.cpu": {"a": "", "b": "c"},
        "hardware.cores": {"a": 0, "b": 2}, "hardware.gpus": {"a": [], "b": ["g"]},
        "settings.ranks": {"a": 1, "b": 2}, "versions.torch": {"a": "2", "b": "3"},
    }  # fmt: skip
    assert found["files"].keys() == {"a", "b", "run/summary.json"}
    assert found["files"]["a"]["b"] is found["files"]["b"]["a"] is None
    assert found["files"]["a"]["a"] == found["files"]["b"]["b"]
    assert json.loads(json.dumps(found)) == found


def test_it_is_the_same_from_the_other_side(make, store: Store) -> None:
    make.commit({"a": b"1"}, config={"x": 1}, metrics={"loss": 1})
    make.commit({"b": b"2"}, stage="sft", config={"y": 1}, metrics={"loss": 2})
    there, back = diff(store, "base/demo", "sft/demo"), diff(store, "sft/demo", "base/demo")
    assert there["code"] == {"stage": {"a": "base", "b": "sft"}}
    for section in SECTIONS:
        turned = {name: {"a": pair["b"], "b": pair["a"]} for name, pair in back[section].items()}
        assert there[section] == turned


def test_what_does_not_exist_is_named(make, store: Store) -> None:
    make.commit()
    with pytest.raises(ResourceError, match="no artifact base/demo@v2"):
        diff(store, "base/demo", "base/demo@v2")
