from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts import layout
from artifacts.backends.memory import MemoryBackend
from artifacts.errors import DataError, UsageError
from artifacts.lease import Lease, LeaseLost
from artifacts.names import Pointer
from artifacts.store import Store


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_keep_their_bytes_and_become_read_only(
    make, store: Store, root: Path, blob_of: Callable
) -> None:
    published = make.commit({"a.bin": b"1234", "sub/b.json": b"{}"}, run={"summary.json": b"[]"})
    assert str(published.ref) == "base/demo@v1"
    assert published.new_version
    stored = {path: blob_of(published.manifest, path).read_bytes() for path in published.manifest.all_files()}
    assert stored == {"a.bin": b"1234", "sub/b.json": b"{}", "run/summary.json": b"[]"}
    assert {path.stat().st_mode & 0o777 for path in (root / "blobs").rglob("*") if path.is_file()} == {0o444}
    assert store.verify() == []


def test_the_same_bytes_are_stored_once(make, root: Path) -> None:
    make.commit({"a": b"same", "b": b"same"}, run={"c": b"same"})
    assert sum(path.is_file() for path in (root / "blobs").rglob("*")) == 1


def test_an_equal_digest_gets_the_existing_version(make, store: Store) -> None:
    first = make.commit(config={"depth": 4})
    second = make.commit(config={"depth": 4, "new": 1}, run={"summary.json": b"other"})
    assert second.ref == first.ref
    assert not second.new_version
    assert second.manifest.hex != first.manifest.hex
    assert store.lookup("base", second.manifest.fingerprint) == second.manifest


def test_latest_moves_on_every_publish(make, store: Store) -> None:
    make.commit(config={"a": 1}, files={"x": b"1"})
    make.commit(config={"a": 2}, files={"x": b"2"})
    assert store.resolve("base/demo")[0].version == 2
    make.commit(config={"a": 3}, files={"x": b"1"})
    assert store.resolve("base/demo")[0].version == 1


def test_the_first_commit_of_a_fingerprint_wins(make, store: Store) -> None:
    first = make.commit(files={"x": b"1"})
    second = make.commit(files={"x": b"2"})
    assert (second.ref, second.manifest, second.new_version) == (first.ref, first.manifest, False)
    assert [version.ref.version for version in store.list()] == [1]


def test_a_forced_rebuild_with_other_bytes_takes_over(make, store: Store) -> None:
    first = make.commit(files={"x": b"1"})
    second = make.commit(files={"x": b"2"}, replace=True)
    assert (str(second.ref), second.new_version) == ("base/demo@v2", True)
    assert store.lookup("base", first.manifest.fingerprint) == second.manifest
    assert store.resolve("base/demo@v1")[1] == first.manifest


def test_a_forced_rebuild_with_equal_bytes_is_identical(make, store: Store) -> None:
    first = make.commit(run={"summary.json": b"1"})
    second = make.commit(run={"summary.json": b"2"}, replace=True)
    assert (second.ref, second.manifest, second.new_version) == (first.ref, first.manifest, False)


@pytest.mark.parametrize("path", ["model.bin", "run/summary.json", "manifest", "pointer"])
def test_a_forced_rebuild_mends_what_was_damaged(
    path: str, make, store: Store, root: Path, blob_of: Callable, flip: Callable
) -> None:
    manifest = make.commit(run={"summary.json": b"first"}).manifest
    targets = {
        "manifest": root / layout.manifest(manifest.hex),
        "pointer": root / layout.fingerprint("base", manifest.fingerprint),
    }
    flip(targets[path] if path in targets else blob_of(manifest, path))
    assert store.verify() != []
    mended = make.commit(run={"summary.json": b"second"}, replace=True)
    assert str(mended.ref) == "base/demo@v1"
    answer = store.lookup("base", manifest.fingerprint)
    assert answer is not None
    store.check(answer)
    assert store.verify("base/demo") == []
    assert {problem.ref for problem in store.verify()} <= {
        layout.manifest(manifest.hex),
        layout.blob(manifest.run_files[0].sha256),
    }  # fmt: skip  what nothing refers to any more; gc removes it
    store.gc(grace_s=0)
    assert store.verify() == []


def test_naming_after_a_crash_is_finished_and_then_writes_nothing(
    make, store: Store, root: Path, snapshot: Callable
) -> None:
    manifest = make.commit(name=None).manifest
    assert store.list() == []
    assert str(store.name(manifest, "demo")) == "base/demo@v1"
    assert str(store.resolve("base/demo")[0]) == "base/demo@v1"
    before = snapshot(root)
    assert str(store.name(manifest, "demo")) == "base/demo@v1"
    assert snapshot(root) == before


def test_a_crash_before_the_alias_moved_is_finished(make, store: Store) -> None:
    make.commit(config={"a": 1}, files={"x": b"1"})
    manifest = make.commit(config={"a": 2}, files={"x": b"2"}, name=None).manifest
    ref, _ = store.names.publish("base", "demo", Pointer.to(manifest))
    assert store.resolve("base/demo")[0].version == 1
    assert store.name(manifest, "demo") == ref
    assert store.resolve("base/demo")[0] == ref


def test_a_cached_older_version_does_not_move_latest(make, store: Store) -> None:
    older = make.commit(config={"a": 1}, files={"x": b"1"}).manifest
    make.commit(config={"a": 2}, files={"x": b"2"})
    assert store.name(older, "demo").version == 1
    assert store.resolve("base/demo")[0].version == 2


def test_what_is_no_artifact_is_refused(make, store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="made no file"):
        store.commit(make.draft(), make.files({}), name="demo")
    with pytest.raises(DataError, match="made run/"):
        make.commit({"run/x": b"1"})
    with pytest.raises(UsageError, match="is not allowed"):
        make.commit({"a b": b"1"})
    with pytest.raises(UsageError, match="is not allowed"):
        make.commit(name="../escape")
    folder = make.files({"a": b"1"})
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="link is not a plain file"):
        store.commit(make.draft(config={"b": 2}), folder, name="demo")
    assert store.list() == []


@pytest.mark.parametrize("take", [False, True])
def test_a_file_that_changes_while_it_is_stored_is_refused(
    make, store: Store, root: Path, monkeypatch, take: bool
) -> None:
    upload = store.backend.upload

    def late_writer(key: str, source: Path, **more: Any) -> None:
        source.write_bytes(b"changed")
        upload(key, source, **more)

    monkeypatch.setattr(store.backend, "upload", late_writer)
    with pytest.raises(DataError, match="changed while it was stored"):
        store.commit(make.draft(), make.files({"x": b"1"}), name="demo", take=take)
    assert store.list() == []
    assert not [path for path in (root / "blobs").rglob("*") if path.is_file()]


def test_a_file_that_goes_elsewhere_is_read_once(make, monkeypatch: pytest.MonkeyPatch) -> None:
    payload, elsewhere = make.files({"x": b"1", "y": b"2" * 1_000_000}), MemoryBackend()
    info = elsewhere.info

    def late_thief(key: str) -> Any:
        for path in payload.iterdir():
            if sha256_of(path) in key:
                path.unlink()
        return info(key)

    monkeypatch.setattr(elsewhere, "info", late_thief)
    made = Store(elsewhere).commit(make.draft(), payload, name="demo").manifest
    assert list(payload.iterdir()) == []
    stored = {entry.path: elsewhere.get(layout.blob(entry.sha256)) for entry in made.files}
    assert stored == {"x": b"1", "y": b"2" * 1_000_000}


@pytest.mark.parametrize("size", [1_000, 1_000_000, 3_000_000])
def test_a_file_that_changes_before_it_goes_elsewhere_is_refused(
    size: int, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload, elsewhere = make.files({"x": b"1" * size}), MemoryBackend()
    monkeypatch.setattr("artifacts.commit._HELD_BYTES", 2_000_000)
    fstat, upload = os.fstat, elsewhere.upload

    def change() -> None:
        (payload / "x").write_bytes(b"2" * size)
        os.utime(payload / "x", ns=(0, 0))

    monkeypatch.setattr("artifacts.commit.os.fstat", lambda number: change() or fstat(number))
    monkeypatch.setattr(elsewhere, "upload", lambda *args, **more: change() or upload(*args, **more))
    with pytest.raises(DataError, match="x changed while it was stored"):
        Store(elsewhere).commit(make.draft(), payload, name="demo")
    assert list(elsewhere.list("blobs/")) == []


def test_finished_files_are_taken_without_a_copy(make, store: Store, blob_of: Callable) -> None:
    draft, payload = make.draft(), make.files({"x": b"1"})
    inode = (payload / "x").stat().st_ino
    made = store.commit(draft, payload, name="demo", take=True).manifest
    blob = blob_of(made, "x")
    assert (blob.stat().st_ino, blob.stat().st_mode & 0o777) == (inode, 0o444)
    assert store.commit(draft, payload, name="demo", take=True).manifest == made
    assert store.verify() == []
    copied = store.commit(make.draft(config={"b": 2}), make.files({"x": b"2"})).manifest
    assert blob_of(copied, "x").stat().st_nlink == 1


@pytest.mark.criterion("T48")
def test_a_commit_under_a_lost_lease_is_refused(make, store: Store) -> None:
    draft, payload = make.draft(), make.files({"x": b"1"})
    lease = Lease(store, "base/x", clock=lambda: 0.0)
    assert lease.try_acquire()
    clock = iter([0.0, 1e6])
    other = Lease(store, "base/x", clock=lambda: next(clock))
    assert not other.try_acquire()
    assert other.try_acquire()
    with pytest.raises(LeaseLost):
        store.commit(draft, payload, name="demo", lease=lease)
    assert store.lookup("base", draft.fingerprint) is None
    assert store.commit(draft, payload, name="demo", lease=other).new_version
