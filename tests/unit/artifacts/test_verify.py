from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.store import Store


@pytest.fixture
def filled(make, store: Store) -> Store:
    """Two artifacts with a shared blob, an alias, and a third one without a name."""
    make.commit({"model.bin": b"weights", "shared": b"same"})
    make.commit({"vocab": b"tokens", "shared": b"same"}, stage="tokenizer")
    make.commit({"x": b"unnamed"}, config={"depth": 9}, name=None)
    store.set_alias("base/demo", "prod")
    return store


def objects(root: Path) -> list[Path]:
    skipped = ("store.json", ".lock")
    return [path for path in sorted(root.rglob("*")) if path.is_file() and path.name not in skipped]


def test_an_intact_store_has_no_problem(filled: Store) -> None:
    assert filled.verify() == []
    assert filled.verify(deep=False) == []
    assert filled.verify("tokenizer/demo") == []


@pytest.mark.criterion("T44")
def test_any_flipped_byte_of_a_blob_or_manifest_is_found(filled: Store, root: Path, flip: Callable) -> None:
    rng = random.Random(44)
    targets = [path for path in objects(root) if path.relative_to(root).parts[0] in ("blobs", "manifests")]
    assert len(targets) == 8
    for path in targets:
        size = path.stat().st_size
        for offset in {0, size - 1, *(rng.randrange(size) for _ in range(6))}:
            flip(path, offset)
            assert filled.verify() != [], (path, offset)
            flip(path, offset)
    assert filled.verify() == []


@pytest.mark.criterion("T44")
def test_every_dropped_blob_manifest_and_version_is_found(filled: Store, root: Path) -> None:
    targets = [
        path for path in objects(root) if path.relative_to(root).parts[0] in ("blobs", "manifests", "names")
    ]
    assert len(targets) == 10
    for path in targets:
        data = path.read_bytes()
        path.unlink()
        assert filled.verify(deep=False) != [], path
        path.write_bytes(data)


@pytest.mark.criterion("T44")
@pytest.mark.parametrize(
    "name",
    ["blobs/sha256/ab/foreign", "blobs/sha256/ab/" + "a" * 64, "blobs/foreign", "manifests/foreign.json",
     "manifests/" + "0" * 64 + ".json", "fingerprints/base/foreign.json", "aliases/base/demo/foreign.json"],
)  # fmt: skip
def test_a_foreign_file_is_found(name: str, filled: Store, root: Path) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"foreign")
    assert len(filled.verify()) == 1


def test_pointers_that_lie_are_found(filled: Store, root: Path) -> None:
    version = root / "names/base/demo/v1.json"
    version.write_bytes((root / "names/tokenizer/demo/v1.json").read_bytes())
    assert {problem.ref for problem in filled.verify()} == {
        "base/demo@latest", "base/demo@prod", "lists/base/demo.json",
    }  # fmt: skip


def test_every_owner_of_a_damaged_file_is_named(filled: Store, blob_of: Callable, flip: Callable) -> None:
    _, manifest = filled.resolve("base/demo")
    flip(blob_of(manifest, "shared"))
    assert filled.verify(deep=False) == []
    assert {str(problem) for problem in filled.verify()} == {
        "base/demo@v1: shared does not have its sha256", "tokenizer/demo@v1: shared does not have its sha256",
    }  # fmt: skip
    assert [problem.file for problem in filled.verify("base/demo")] == ["shared"]
    assert filled.verify("base/demo", deep=False) == []


def test_a_damaged_manifest_is_a_problem_not_a_crash(filled: Store, root: Path, flip: Callable) -> None:
    _, manifest = filled.resolve("base/demo")
    flip(root / "manifests" / f"{manifest.hex}.json", 50)
    problems = filled.verify("base/demo@v1")
    assert len(problems) == 1
    assert "base/demo@v1 is damaged: manifests/" in str(problems[0])
