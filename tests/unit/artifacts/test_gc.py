from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts import layout
from artifacts.backends.memory import MemoryBackend
from artifacts.errors import DataError
from artifacts.retention import DAY_S
from artifacts.store import Store


def test_what_is_referenced_stays(
    make, store: Store, parent_of: Callable, root: Path, snapshot: Callable
) -> None:
    tokenizer = make.commit({"t": b"t"}, stage="tokenizer", name=None)
    make.commit({"m": b"m"}, parents=(parent_of(tokenizer, "tokenizer"),))
    (
        root / "fingerprints" / "tokenizer" / f"{tokenizer.manifest.fingerprint}.json"
    ).unlink()  # kept as a parent
    before = snapshot(root)
    assert store.gc(grace_s=0).removed == ()
    assert snapshot(root) == before


def test_what_is_not_is_removed_after_the_grace_period(make, store: Store, root: Path) -> None:
    make.commit({"m": b"old"})
    make.commit({"m": b"new!"}, name=None, config={"x": 1})
    orphan = make.commit({"m": b"newer"}, name=None, config={"x": 1}, replace=True).manifest
    (root / "fingerprints" / "base" / f"{orphan.fingerprint}.json").unlink()
    (root / "blobs" / ".tmp-1-dead").write_bytes(b"torn")
    assert store.gc().removed == ()
    planned = store.gc(dry_run=True, grace_s=0)
    assert len(planned.removed) == 2 + 2 + 1  # two manifests, two blobs, one leftover
    assert planned.dry_run
    assert (root / "manifests" / f"{orphan.hex}.json").exists()
    done = store.gc(grace_s=0)
    assert (done.removed, done.bytes) == (planned.removed, planned.bytes)
    assert done.bytes > len(b"new!" + b"newer" + b"torn")
    assert store.verify() == []
    assert store.gc(grace_s=0).removed == ()
    assert not list(root.rglob(".tmp-*"))


def test_finished_attempts_go_unfinished_ones_stay(make, store: Store) -> None:
    manifest = make.commit().manifest
    finished, unfinished = store.attempt_dir(manifest.fingerprint), store.attempt_dir("a" * 64)
    for folder in (finished, unfinished):
        (folder / "checkpoint").write_bytes(b"12345")
    assert store.gc().removed == ()  # a forced rebuild may be using it now
    report = store.gc(grace_s=0)
    assert report.removed == (f"attempts/{manifest.fingerprint}",)
    assert report.bytes == 5
    assert not finished.exists()
    assert unfinished.exists()


def test_an_attempt_that_nobody_works_on_goes_after_a_month(tmp_path: Path) -> None:
    now = [0.0]
    store = Store(MemoryBackend(clock=lambda: now[0]))
    for fingerprint in ("a" * 64, "b" * 64):
        store.backend.put(layout.Snapshot(fingerprint, 1, 1).file("log.txt"), b"123")
    folder = store.attempt_dir("a" * 64)
    now[0] = 29 * DAY_S
    store.backend.put(layout.Snapshot("b" * 64, 2, 1).file("log.txt"), b"123")
    assert store.gc(grace_s=0).removed == ()
    now[0] = 31 * DAY_S
    assert store.gc(dry_run=True).removed == store.gc().removed == (f"attempts/{'a' * 64}",)
    assert not folder.exists()
    assert {info.key.split("/")[1] for info in store.backend.list("attempts/")} == {"b" * 64}


def test_damage_stops_it_before_it_removes(make, store: Store, root: Path, flip: Callable) -> None:
    manifest = make.commit().manifest
    (root / "blobs" / ".tmp-1-dead").write_bytes(b"torn")
    flip(root / "manifests" / f"{manifest.hex}.json")
    with pytest.raises(DataError):
        store.gc(grace_s=0)
    assert (root / "blobs" / ".tmp-1-dead").exists()


def test_a_commit_under_way_protects_old_blobs_that_it_uses(make, store: Store, blob_of: Callable) -> None:
    manifest = make.commit({"m": b"shared"}).manifest
    blob = blob_of(manifest, "m")
    os.utime(blob, (0, 0))
    make.commit({"m": b"shared"}, config={"x": 1}, name=None)
    assert time.time() - blob.stat().st_mtime < 60


def test_a_signature_lives_as_long_as_its_artifact(make, store: Store, root: Path) -> None:
    kept = make.commit({"m": b"m"}).manifest
    gone = make.commit({"m": b"n"}, name=None, config={"x": 1}).manifest
    signatures = [layout.signature(manifest.hex, "c" * 64) for manifest in (kept, gone)]
    for key in signatures:
        store.backend.put(key, b"{}")
    store.backend.put("signatures/foreign", b"")
    assert store.gc(grace_s=0).removed == ("signatures/foreign",)
    (root / "fingerprints" / "base" / f"{gone.fingerprint}.json").unlink()
    assert store.gc().removed == ()
    assert signatures[1] in store.gc(grace_s=0).removed
    assert [store.backend.get(key) for key in signatures] == [b"{}", None]
