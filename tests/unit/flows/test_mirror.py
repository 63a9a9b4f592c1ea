"""Checkpoints reach a store that is elsewhere while a stage runs, and cost it nothing if they do not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.attempts import newest_snapshot
from artifacts.backends.memory import Fault, MemoryBackend
from artifacts.lease import Lease
from artifacts.store import Store
from flows import mirror as module
from flows.launch import STOP
from flows.mirror import mirrored
from nanochat.train.published import latest_checkpoint, newest_step

FINGERPRINT = "ab" + "0" * 62


class Broken(Exception):
    """The stage failed."""


class Slow(MemoryBackend):
    """Uploads wait for ``opened``, and more than one at a time is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.opened, self.begun = threading.Event(), threading.Event()
        self.alone = threading.Lock()
        self.opened.set()

    def upload(
        self, key: str, source: Path, *, sha256: str | None = None, hashed: os.stat_result | None = None
    ) -> str:
        assert self.alone.acquire(blocking=False)
        self.begun.set()
        self.opened.wait(30)
        try:
            return super().upload(key, source, sha256=sha256, hashed=hashed)
        finally:
            self.alone.release()


class Machine:
    """One of several that use a store: what is on its disk, and what it is told."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.attempt = store, folder
        self.warnings: list[str] = []
        self.lease = Lease(store, "base/x")
        self.attempt.mkdir()

    def works(self):
        """The context in which its stage runs."""
        assert self.lease.try_acquire()
        return mirrored(self.store, self.lease, FINGERPRINT, self.attempt, self.warnings.append)

    def saves(self, step: int) -> None:
        """What the stage's program does, without torch: publish a checkpoint, keep the two newest."""
        folder = self.attempt / "checkpoints"
        temporary = folder / f".tmp-step-{step:08d}"
        temporary.mkdir(parents=True)
        files = {
            "state.json": json.dumps({"step": step}),
            "tensors.safetensors": "\0" * 8 + f"weights {step}",
        }
        entries = []
        for name, text in files.items():
            (temporary / name).write_text(text)
            sha256 = hashlib.sha256(text.encode()).hexdigest()
            entries.append({"path": name, "size": len(text), "sha256": sha256})
        (temporary / "manifest.json").write_text(json.dumps({"schema": 1, "step": step, "files": entries}))
        temporary.rename(folder / f"step-{step:08d}")
        for path in sorted(folder.glob("step-*"))[:-2]:
            shutil.rmtree(path)
        with (self.attempt / "log.txt").open("a") as log:
            log.write(f"saved {step}\n")
        with (self.attempt / "records.jsonl").open("a") as records:
            records.write(json.dumps({"step": step}) + "\n")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def backend() -> Slow:
    return Slow()


@pytest.fixture
def machine(backend: Slow, tmp_path: Path) -> Callable[[str], Machine]:
    """``machine("first")``: an empty one."""
    return lambda name: Machine(Store(backend), tmp_path / name)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until(store: Store, step: int) -> None:
    wait_for(lambda: newest_snapshot(store, FINGERPRINT) == step)


def test_another_machine_goes_on_from_what_was_sent_while_the_first_one_worked(machine) -> None:
    first, second = machine("first"), machine("second")
    with first.works():
        assert newest_step(first.attempt / "checkpoints") == -1
        for step in (99_999_999, 100_000_000):
            first.saves(step)
            until(first.store, step)
    first.lease.release()
    shutil.rmtree(first.attempt)  # its disk is gone
    with second.works():
        newest = latest_checkpoint(second.attempt / "checkpoints")
        assert newest is not None
        assert (newest.name, newest.parent) == ("step-100000000", second.attempt / "checkpoints")
        assert json.loads((newest / "state.json").read_text()) == {"step": 100_000_000}
        assert (second.attempt / "log.txt").read_text() == "saved 99999999\nsaved 100000000\n"
        assert '{"step": 100000000}' in (second.attempt / "records.jsonl").read_text()
        second.saves(100_000_001)
        until(second.store, 100_000_001)
    assert not (second.attempt / "mirror").exists()
    assert first.warnings == second.warnings == []


def test_only_what_is_newer_is_fetched(machine) -> None:
    first, second = machine("first"), machine("second")
    with first.works():
        first.saves(5)
        until(first.store, 5)
    first.lease.release()
    second.saves(7)
    with second.works():
        assert newest_step(second.attempt / "checkpoints") == 7
        assert (second.attempt / "log.txt").read_text() == "saved 7\n"
        until(second.store, 7)
        second.saves(9)
        until(second.store, 9)
    second.lease.release()
    half = first.attempt / "checkpoints" / "step-00000009"
    half.mkdir()
    (half / "manifest.json").write_text("{}")
    with first.works():
        assert latest_checkpoint(first.attempt / "checkpoints") == half
        assert (first.attempt / "log.txt").read_text() == "saved 7\nsaved 9\n"


def test_what_a_machine_has_that_the_store_has_is_not_sent_again(machine, backend: Slow) -> None:
    first = machine("first")
    with first.works():
        first.saves(5)
        until(first.store, 5)
    first.lease.release()
    sent = backend.calls["upload"]
    with first.works():
        time.sleep(0.2)
    assert backend.calls["upload"] == sent


def test_a_checkpoint_that_goes_while_it_is_sent_arrives_whole(machine, backend: Slow) -> None:
    first, second = machine("first"), machine("second")
    backend.opened.clear()
    with first.works():
        first.saves(1)
        assert backend.begun.wait(30)
        for step in (2, 3, 4):
            first.saves(step)
        assert not (first.attempt / "checkpoints" / "step-00000001").exists()
        assert newest_snapshot(first.store, FINGERPRINT) == -1
        backend.opened.set()
        until(first.store, 4)
    first.lease.release()
    with second.works():
        assert newest_step(second.attempt / "checkpoints") == 4


def test_a_failed_upload_is_said_once_and_the_next_checkpoint_is_tried(
    machine, backend: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    first = machine("first")
    backend.faults = [Fault("upload", number) for number in (1, 2)] + [Fault("put", 1)]
    with first.works():
        for step in (1, 2, 3):
            first.saves(step)
            wait_for(lambda step=step: first_tried(backend) >= step)
        assert newest_snapshot(first.store, FINGERPRINT) == -1
        time.sleep(0.1)  # each is tried once
        first.saves(4)
        until(first.store, 4)
    assert len(first.warnings) == len(caplog.records) == 1
    assert first.warnings[0].startswith("WARNING: checkpoint 1 is not in the store: memory://: planned fault")


def first_tried(backend: Slow) -> int:
    """How many checkpoints were tried: the first two fail at their first upload, the third at its end."""
    return min(backend.calls["upload"], 2) + backend.calls["put"]


def test_if_the_stage_fails_its_last_checkpoint_is_sent_even_if_that_failed_before(
    machine, backend: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = machine("first")
    backend.faults = [Fault("upload", 1)]
    with pytest.raises(Broken), first.works():  # noqa: PT012
        first.saves(1)
        wait_for(lambda: first.warnings)
        raise Broken
    assert newest_snapshot(first.store, FINGERPRINT) == 1
    first.lease.release()
    monkeypatch.setattr(module, "_LOOK_S", 60)
    with pytest.raises(Broken), first.works():  # noqa: PT012
        first.saves(2)
        raise Broken
    assert newest_snapshot(first.store, FINGERPRINT) == 2
    first.lease.release()
    with first.works():  # it ends well: what it saved last helps nobody
        first.saves(3)
    assert newest_snapshot(first.store, FINGERPRINT) == 2


def test_who_asks_twice_to_end_does_not_wait_for_an_upload(
    machine, backend: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = machine("first")
    backend.opened.clear()
    with pytest.raises(Broken), first.works():  # noqa: PT012
        first.saves(1)
        assert backend.begun.wait(30)
        monkeypatch.setattr(STOP, "pulls", 2)
        raise Broken
    assert newest_snapshot(first.store, FINGERPRINT) == -1
    backend.opened.set()


def test_nothing_is_sent_once_the_lease_is_lost(machine) -> None:
    first = machine("first")
    with first.works():
        first.lease.release()
        first.saves(1)
        time.sleep(0.1)
    assert newest_snapshot(first.store, FINGERPRINT) == -1
    assert first.warnings == []


@pytest.mark.criterion("T90")
def test_no_secret_goes_with_log_and_records(machine, backend: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "canary-5f2a9c77"
    monkeypatch.setenv("HUB_TOKEN", secret)
    first = machine("first")
    for name in ("log.txt", "records.jsonl"):
        (first.attempt / name).write_text(f'"{secret}"\n')
    with first.works():
        first.saves(1)
        until(first.store, 1)
    stored = {info.key: backend.get(info.key) or b"" for info in backend.list("attempts/")}
    assert any(key.endswith("log.txt") for key in stored)
    assert [key for key, data in stored.items() if secret.encode() in data] == []


def test_in_a_folder_nothing_is_copied(tmp_path: Path) -> None:
    first = Machine(Store.open(str(tmp_path / "store")), tmp_path / "store-attempt")
    with first.works():
        first.saves(1)
        assert [thread.name for thread in threading.enumerate() if thread.name == "mirror"] == []
    assert newest_snapshot(first.store, FINGERPRINT) == -1
