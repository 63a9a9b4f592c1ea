"""Snapshots of unfinished work: whole or not at all, the newest one intact, never from who lost the lease."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from artifacts import atomic, layout
from artifacts.attempts import drop_snapshots, fetch_snapshot, newest_snapshot, put_snapshot
from artifacts.backends.memory import Fault, MemoryBackend
from artifacts.errors import DataError, ResourceError
from artifacts.lease import Lease, LeaseLost
from artifacts.process import Process
from artifacts.store import Store

FINGERPRINT = "ab" + "0" * 62
ELSEWHERE = Process("another-host", 1, "1")


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def far(backend: MemoryBackend) -> Store:
    """A store that is not on this disk."""
    return Store(backend)


@pytest.fixture
def lease(far: Store) -> Lease:
    held = Lease(far, "base/x")
    assert held.try_acquire()
    return held


@pytest.fixture
def work(tmp_path: Path) -> Callable[[int], Path]:
    """``work(step)``: a folder with what an attempt had at that step."""

    def make(step: int) -> Path:
        folder = tmp_path / f"work-{step}"
        (folder / "checkpoints" / f"step-{step:08d}").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints" / f"step-{step:08d}" / "tensors").write_bytes(bytes([step]) * 1000)
        (folder / "log.txt").write_text(f"step {step}\n")
        (folder / "empty").write_text("")
        return folder

    return make


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fetched(store: Store, folder: Path, after: int = -1) -> tuple[int | None, dict[str, bytes]]:
    folder.mkdir()
    return fetch_snapshot(store, FINGERPRINT, folder, after=after), contents(folder)


def parts(backend: MemoryBackend) -> list[str]:
    return [info.key for info in backend.list("attempts/")]


def test_what_is_put_comes_back_if_it_is_newer(far: Store, lease: Lease, work, tmp_path: Path) -> None:
    assert newest_snapshot(far, FINGERPRINT) == -1
    assert fetched(far, tmp_path / "none") == (None, {})
    put_snapshot(far, lease, FINGERPRINT, 7, work(7))
    assert newest_snapshot(far, FINGERPRINT) == 7
    assert fetched(far, tmp_path / "all", after=6) == (7, contents(work(7)))
    assert fetched(far, tmp_path / "same", after=7) == (None, {})
    (tmp_path / "all" / "log.txt").write_text("it may be written to")


def test_the_two_newest_are_kept(far: Store, backend: MemoryBackend, lease: Lease, work) -> None:
    for step in (98, 99, 100):
        put_snapshot(far, lease, FINGERPRINT, step, work(step))
    assert {layout.snapshot_of(key) for key in parts(backend)} == {
        layout.Snapshot(FINGERPRINT, step, 1) for step in (99, 100)
    }
    drop_snapshots(far, FINGERPRINT)
    assert parts(backend) == []


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize(("verb", "calls"), [("upload", 3), ("put", 1), ("list", 1), ("delete", 4)])
def test_whatever_request_fails_what_is_there_in_part_never_counts(
    far: Store,
    backend: MemoryBackend,
    lease: Lease,
    work,
    tmp_path: Path,
    verb: str,
    calls: int,
    applied: bool,
) -> None:
    for step in (1, 2):
        put_snapshot(far, lease, FINGERPRINT, step, work(step))
    for number in range(1, calls + 1):
        step = 3 * number
        backend.calls.clear()
        backend.faults = [Fault(verb, number, applied)]
        with pytest.raises(ResourceError):
            put_snapshot(far, lease, FINGERPRINT, step, work(step))
        backend.faults = []
        before = step - 1
        assert fetched(far, tmp_path / f"{number}") in (
            (step, contents(work(step))),
            (before, contents(work(before))),
        )
        for later in (step + 1, step + 2):
            put_snapshot(far, lease, FINGERPRINT, later, work(later))
        left = {layout.snapshot_of(key) for key in parts(backend)}
        assert {snapshot.step for snapshot in left if snapshot} == {step + 1, step + 2}, "no half is left"


def test_a_damaged_one_is_passed_over_and_all_damaged_is_an_error(
    far: Store, backend: MemoryBackend, lease: Lease, work, tmp_path: Path, caplog
) -> None:
    for step in (1, 2):
        put_snapshot(far, lease, FINGERPRINT, step, work(step))
    newest, older = (layout.Snapshot(FINGERPRINT, step, 1) for step in (2, 1))
    backend.put(newest.file("log.txt"), b"step 9\n")
    assert fetched(far, tmp_path / "1") == (1, contents(work(1)))
    assert f"{newest.file('log.txt')} is missing, or not the file" in caplog.text
    backend.put(newest.file("log.txt"), b"step 2\n")
    assert fetched(far, tmp_path / "2") == (2, contents(work(2)))
    backend.delete(newest.file("empty"))
    assert fetched(far, tmp_path / "3") == (1, contents(work(1)))
    for bad in (
        b"",
        b'{"version": 2, "files": []}',
        b'{"files": [{"path": "../x", "size": 1, "sha256": "%s"}]}',
    ):
        backend.put(older.manifest, bad.replace(b"%s", b"a" * 64))
        with pytest.raises(DataError, match=r"none of the 2 checkpoints in the store is intact .*--force"):
            fetched(far, tmp_path / f"bad{len(bad)}")
    assert fetched(far, tmp_path / "local", after=0) == (None, {}), "this machine has something to go on from"


@pytest.mark.criterion("T48")
def test_who_lost_the_lease_changes_nothing(far: Store, backend: MemoryBackend, work, tmp_path: Path) -> None:
    now = [0.0]
    sleeper = Lease(far, "base/x", process=ELSEWHERE)
    assert sleeper.try_acquire()
    put_snapshot(far, sleeper, FINGERPRINT, 1, work(1))
    successor = Lease(far, "base/x", clock=lambda: now[0])
    assert not successor.try_acquire()
    now[0] = 31
    assert successor.try_acquire()
    for step in (1, 2):
        put_snapshot(far, successor, FINGERPRINT, step, work(step))
    before = parts(backend)
    with pytest.raises(LeaseLost):
        put_snapshot(far, sleeper, FINGERPRINT, 2, work(3))
    assert set(before) <= set(parts(backend))
    assert layout.Snapshot(FINGERPRINT, 2, 1).manifest not in parts(backend), "it does not count"
    assert fetched(far, tmp_path / "all") == (2, contents(work(2)))
    put_snapshot(far, successor, FINGERPRINT, 4, work(4))
    assert {layout.snapshot_of(key) for key in parts(backend)} == {
        layout.Snapshot(FINGERPRINT, step, 2) for step in (2, 4)
    }, "what the sleeper left half-done is gone"


def test_a_removal_that_stops_half_way_leaves_nothing_that_counts(
    far: Store, backend: MemoryBackend, lease: Lease, work
) -> None:
    for step in (1, 2):
        put_snapshot(far, lease, FINGERPRINT, step, work(step))
    backend.faults = [Fault("delete", 3)]
    with pytest.raises(ResourceError):
        drop_snapshots(far, FINGERPRINT)
    assert newest_snapshot(far, FINGERPRINT) == -1
    assert len(parts(backend)) == 6
    drop_snapshots(far, FINGERPRINT)
    assert parts(backend) == []


def test_a_file_that_changes_meanwhile_does_not_count(
    far: Store, lease: Lease, work, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = atomic.digest_into

    def read_and_change(source: Path, target: BinaryIO | None = None) -> str:
        sha256 = read(source, target)
        source.write_text("of a later step")
        return sha256

    monkeypatch.setattr(atomic, "digest_into", read_and_change)
    with pytest.raises(DataError, match="changed while it was stored"):
        put_snapshot(far, lease, FINGERPRINT, 1, work(1))
    assert newest_snapshot(far, FINGERPRINT) == -1
