"""The store on every backend: round trips, damage, races, dead and woken holders, kills."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from artifacts.atomic import digest_into
from artifacts.backends import Backend, open_backend
from artifacts.backends.memory import ANY, Fault, MemoryBackend
from artifacts.commit import Published
from artifacts.errors import DataError
from artifacts.lease import Lease, LeaseLost
from artifacts.lineage import graph
from artifacts.manifest import Parent, Provenance
from artifacts.process import Process
from artifacts.retention import Rules
from artifacts.store import Store

pytestmark = pytest.mark.usefixtures("home")
FORK = multiprocessing.get_context("fork")


class Killed(BaseException):
    """The process ended here."""


@pytest.fixture
def store(backend: Backend) -> Store:
    return Store(backend)


@pytest.fixture
def made(store: Store, tmp_path: Path, make) -> Published:
    return store.commit(make.draft(1), make.files(tmp_path / "one", 1), name="demo")


def test_a_round_trip(store: Store, made: Published, tmp_path: Path, make) -> None:
    again = store.commit(make.draft(2), make.files(tmp_path / "two", 2), name="demo")
    assert (str(made.ref), str(again.ref)) == ("base/demo@v1", "base/demo@v2")
    assert store.resolve("base/demo")[1] == again.manifest
    assert str(store.set_alias("base/demo@v1", "prod")) == "base/demo@v1"
    assert (
        store.resolve("base/demo@prod")[1] == store.lookup("base", make.draft(1).fingerprint) == made.manifest
    )
    view = store.checkout(made.manifest, tmp_path / "views")
    assert {path: digest_into(view / path) for path in made.manifest.all_files()} == {
        path: entry.sha256 for path, entry in made.manifest.all_files().items()
    }
    assert store.verify() == []
    assert store.gc(grace_s=-1).removed == ()
    reopened = Store(store.backend)
    assert [str(version.ref) for version in reopened.list()] == ["base/demo@v1", "base/demo@v2"]


def test_an_old_version_expires_and_a_pinned_one_stays(
    make, store: Store, made: Published, tmp_path: Path
) -> None:
    old = store.commit(make.draft(2), make.files(tmp_path / "two", 2), name="demo").manifest
    store.commit(make.draft(3), make.files(tmp_path / "three", 3), name="demo")
    store.pin("base/demo@v1", "first")
    report = store.gc(rules=Rules(keep_last=1), grace_s=-1)
    assert [item.refs for item in report.expired] == [("base/demo@v2",)]
    assert report.removed == ()
    assert store.lookup("base", make.draft(2).fingerprint) is None
    removed = store.gc(grace_s=-1).removed
    assert removed == report.later
    assert len(removed) == 1 + 2  # same.json is needed by the others
    assert f"manifests/{old.hex}.json" in removed
    assert [str(version.ref) for version in store.list()] == ["base/demo@v1", "base/demo@v3"]
    assert store.verify() == []


def test_what_is_there_is_not_sent_again(
    store: Store, made: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make
) -> None:
    sent: list[str] = []

    def counted(key: str, *args: Any, call: Callable, **more: Any) -> None:
        if key.startswith("blobs/"):
            sent.append(key)
        call(key, *args, **more)

    for verb in ("upload", "put"):
        monkeypatch.setattr(store.backend, verb, partial(counted, call=getattr(store.backend, verb)))
    store.commit(make.draft(2), make.files(tmp_path / "one", 1), name="other")
    assert sent == []
    (tmp_path / "one" / "a.bin").write_bytes(b"new")
    store.commit(make.draft(3), tmp_path / "one", name="other")
    assert len(sent) == 1


@pytest.mark.criterion("T50")
def test_the_walk_from_a_report_reaches_everything_also_what_lost_its_name(
    store: Store, draft, make, tmp_path: Path
) -> None:
    provenance = Provenance(commit="c" * 40, command="nanochat run demo")
    parents: tuple[Parent, ...] = ()
    for number, stage in enumerate(("shards", "tokenizer", "base", "report")):
        payload = make.files(tmp_path / stage, number)
        made = store.commit(draft(stage, parents=parents, provenance=provenance), payload, name="demo")
        digest, manifest = made.manifest.digest, made.manifest.hex
        parents = (*parents, Parent(role=stage, ref=str(made.ref), digest=digest, manifest=manifest))
    for key in [info.key for info in store.backend.list("")]:
        if key.startswith(("names/", "aliases/", "lists/", "fingerprints/")) and "report" not in key:
            store.backend.delete(key)
    found = graph(store, "report/demo")
    assert found["root"] == "report/demo@v1"
    assert {node["kind"] for node in found["nodes"]} == {"shards", "tokenizer", "base", "report"}
    assert len(found["edges"]) == 1 + 2 + 3
    for node in found["nodes"]:
        assert (node["provenance"]["commit"], node["provenance"]["command"]) == (
            provenance.commit, provenance.command,
        )  # fmt: skip
    store.backend.delete(f"manifests/{parents[0].manifest}.json")
    with pytest.raises(DataError, match=f"shards sha256:{parents[0].digest[:12]} is damaged"):
        graph(store, "report/demo")


@pytest.mark.criterion("T44")
def test_any_damage_is_found(store: Store, made: Published) -> None:
    store.pin("base/demo")
    for info in list(store.backend.list("")):
        if not info.key.startswith(("blobs/", "manifests/", "fingerprints/", "names/", "aliases/", "pins/")):
            continue
        data = store.backend.get(info.key)
        assert data
        for damaged in (data[: len(data) // 2], bytes([data[0] ^ 1]) + data[1:], b""):
            store.backend.put(info.key, damaged)
            assert store.verify(), info.key
        store.backend.delete(info.key)
        if not info.key.startswith(("aliases/", "pins/")):  # without a mark it is as good as before
            assert store.verify() or info.key.startswith(("fingerprints/", "names/")), info.key
        store.backend.put(info.key, data)
        assert store.verify() == []
    store.backend.put("blobs/sha256/00/foreign", b"x")
    assert store.verify()


@pytest.mark.criterion("T44")
def test_a_damaged_blob_is_refused_by_who_would_read_it(
    store: Store, made: Published, tmp_path: Path, make
) -> None:
    entry = made.manifest.all_files()["a.bin"]
    key = f"blobs/sha256/{entry.sha256[:2]}/{entry.sha256}"
    data = store.backend.get(key)
    assert data
    store.backend.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match=r"base/demo@v1 is damaged: a\.bin"):
        store.checkout(made.manifest, tmp_path / "views")
    store.commit(make.draft(1), tmp_path / "one", name="demo", replace_fingerprint=True)
    assert store.verify() == []
    assert (store.checkout(made.manifest, tmp_path / "views") / "a.bin").read_bytes() == data


@pytest.mark.criterion("T41")
def test_concurrent_committers_end_with_one_artifact(store: Store, tmp_path: Path, make) -> None:
    folders = [make.files(tmp_path / str(seed), seed) for seed in range(8)]
    barrier, found = threading.Barrier(8), []

    def work(folder: Path) -> None:
        barrier.wait(60)
        found.append(store.commit(make.draft(1), folder, name="demo"))

    threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(str(published.ref), published.manifest.hex) for published in found}) == 1
    assert len(found) == 8
    assert store.lookup("base", make.draft(1).fingerprint) == found[0].manifest
    assert store.verify() == []


@pytest.mark.criterion("T48")
def test_a_woken_holder_may_not_commit(store: Store, tmp_path: Path, make) -> None:
    now = [0.0]
    elsewhere = Process(host="another machine", pid=1, start="1")
    paused = Lease(store, "base/x", interval_s=10, process=elsewhere)
    assert paused.try_acquire()
    heir = Lease(store, "base/x", interval_s=10, clock=lambda: now[0])
    assert not heir.try_acquire()
    now[0] = 29
    assert not heir.try_acquire()
    now[0] = 31
    assert heir.try_acquire()
    assert heir.fence > paused.fence
    with pytest.raises(LeaseLost):
        store.commit(make.draft(1), make.files(tmp_path / "one", 1), name="demo", lease=paused)
    assert store.lookup("base", make.draft(1).fingerprint) is None
    assert store.commit(make.draft(1), tmp_path / "one", name="demo", lease=heir).new_version


@pytest.mark.criterion("T42")
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
def test_the_end_of_the_process_at_each_step_of_a_commit(applied: bool, tmp_path: Path, make) -> None:
    """Memory knows its calls: each of them, in turn, is the last one."""
    folder, step, reached = make.files(tmp_path / "one", 1), 0, True
    while reached:
        step += 1
        backend = MemoryBackend(faults=[Fault(ANY, step, applied, Killed)])
        store, reached = Store(backend), False
        try:
            store.commit(make.draft(1), folder, name="demo")
        except Killed:
            reached = True
        backend.faults.clear()
        assert store.verify() == [], step
        published = store.commit(make.draft(1), folder, name="demo")
        assert str(published.ref) == "base/demo@v1"
        assert store.resolve("base/demo")[1] == published.manifest
    assert step > 15


@pytest.mark.criterion("T42")
@pytest.mark.needs("weed")
def test_sigkills_during_pushes_to_a_bucket(
    weed: dict[str, str], s3_place: Callable[[dict[str, str]], str], tmp_path: Path, make
) -> None:
    url, rng = s3_place(weed), random.Random(42)
    folders = [make.files(tmp_path / str(seed), seed, size=9_000_000) for seed in range(2)]
    killed, number, longest_s = 0, 0, 1.0

    def push(number: int) -> None:
        Store(open_backend(url)).commit(make.draft(number), folders[number % 2], name="demo")

    while killed < 10 and number < 30:
        number += 1
        process = FORK.Process(target=push, args=(number,))
        process.start()
        time.sleep(rng.uniform(0.1, longest_s))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        was_killed = process.exitcode == -signal.SIGKILL
        longest_s *= 1.1 if was_killed else 0.8
        killed += was_killed
    store = Store(open_backend(url))
    assert killed == 10
    assert store.verify() == []
    for again in range(1, number + 1):
        store.commit(make.draft(again), folders[again % 2], name="demo")
        assert store.lookup("base", make.draft(again).fingerprint)
    store.gc(grace_s=-1)
    assert store.verify() == []
    assert list(store.backend.leftovers()) == []
