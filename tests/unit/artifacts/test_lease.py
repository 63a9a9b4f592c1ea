from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

from artifacts.errors import DataError
from artifacts.lease import MISSED_HEARTBEATS, Holder, Lease, LeaseLost
from artifacts.process import Process
from artifacts.store import Store

ELSEWHERE = Process("another-host", 1, "1")
FORK = multiprocessing.get_context("fork")


class Memory:
    """The two verbs that a lease needs, without a disk: thousands of steps a second."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def compare_and_swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        if self.objects.get(key) != expected:
            return False
        self.objects[key] = data
        return True


class Worker:
    """A process on a host of its own, with its own clock, stepped by the test."""

    def __init__(self, store: SimpleNamespace, name: str, offset_s: float) -> None:
        self.clock_s = offset_s
        self.lease = Lease(
            store, "base/x", interval_s=10, clock=lambda: self.clock_s, process=Process(name, 1, "1")
        )

    def holds(self) -> bool:
        try:
            self.lease.check()
        except LeaseLost:
            return False
        return True


@pytest.fixture
def child() -> Iterator[Callable[[Callable[[Connection], None]], tuple[int, Connection]]]:
    """Start a function in a forked process; returns its number and a pipe to it. Killed at the end."""
    started = []

    def start(target: Callable[[Connection], None]) -> tuple[int, Connection]:
        ours, theirs = FORK.Pipe()
        process = FORK.Process(target=target, args=(theirs,), daemon=True)
        process.start()
        started.append(process)
        assert process.pid
        return process.pid, ours

    yield start
    for process in started:
        os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.join()


def test_one_holder_at_a_time_and_a_number_that_only_grows(store: Store) -> None:
    with Lease(store, "base/x") as first:
        assert first.fence == 1
        first.check()
        assert not Lease(store, "base/x").acquire(block=False)
        with Lease(store, "base/y") as other:
            assert other.fence == 1
    with pytest.raises(LeaseLost):
        first.check()
    with Lease(store, "base/x") as second:
        assert second.fence == 2


def test_waiting_ends_with_the_release_and_announces_the_holder_once(store: Store) -> None:
    first, second = Lease(store, "base/x", interval_s=0.05), Lease(store, "base/x", interval_s=0.05)
    announced: list[int] = []
    waits = threading.Event()

    def on_wait(holder: Holder) -> None:
        announced.append(holder.process.pid)
        waits.set()

    first.acquire()
    thread = threading.Thread(target=second.acquire, kwargs={"on_wait": on_wait})
    thread.start()
    assert waits.wait(10)
    first.release()
    thread.join(10)
    assert second.fence == 2
    assert announced == [os.getpid()]
    second.release()
    second.release()


def test_a_released_lease_leaves_no_thread(store: Store) -> None:
    before = threading.active_count()
    with Lease(store, "base/x"):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_the_heartbeat_advances_the_counter(store: Store) -> None:
    with Lease(store, "base/x", interval_s=0.02) as lease:
        deadline = time.monotonic() + 10
        while (holder := lease.holder()) and holder.beat < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_damaged_lease_is_named(store: Store, root: Path) -> None:
    with Lease(store, "base/x"):
        pass
    (root / "leases" / "base" / "x.json").write_text('{"fence": 1}')
    with pytest.raises(DataError, match=r"leases/base/x\.json"):
        Lease(store, "base/x").acquire()


def test_a_silent_holder_elsewhere_is_replaced_after_three_heartbeats_of_the_waiters_clock() -> None:
    store = SimpleNamespace(backend=Memory())
    holder, waiter = Worker(store, "a", 0), Worker(store, "b", 3600)
    assert holder.lease.try_acquire()
    assert not waiter.lease.try_acquire()
    for _ in range(10):  # a holder that beats is never replaced, however long it takes
        waiter.clock_s += MISSED_HEARTBEATS * 10 - 1
        holder.lease.beat()
        assert not waiter.lease.try_acquire()
    waiter.clock_s += MISSED_HEARTBEATS * 10
    assert not waiter.lease.try_acquire()
    waiter.clock_s += 1
    assert waiter.lease.try_acquire()
    assert waiter.lease.fence == 2
    assert not holder.holds()
    holder.lease.release()
    assert waiter.holds()


@pytest.mark.criterion("T47")
def test_whatever_the_clocks_and_the_order_there_is_one_owner() -> None:
    takeovers = 0
    for seed in range(1000):
        rng = random.Random(seed)
        store = SimpleNamespace(backend=Memory())
        workers = [Worker(store, str(index), rng.uniform(-3600, 3600)) for index in range(3)]
        fences: list[int] = []
        for _ in range(12):
            worker = rng.choice(workers)
            action = rng.choice(["try", "try", "beat", "release", "wait"])
            if action == "wait":
                worker.clock_s += rng.choice([1, 9, 31])
            elif action == "release":
                worker.lease.release()
            elif action == "beat":
                worker.holds()
            elif not worker.holds() and worker.lease.try_acquire():
                fences.append(worker.lease.fence)
                assert [other.holds() for other in workers].count(True) == 1, seed
        assert fences == sorted(set(fences)), seed
        takeovers += len(fences)
    assert takeovers > 1000


@pytest.mark.criterion("T48")
def test_a_killed_holder_of_this_machine_is_replaced_at_once(store: Store, child: Callable) -> None:
    def hold(pipe: Connection) -> None:
        Lease(store, "base/x").acquire()
        pipe.send("held")
        signal.pause()

    pid, pipe = child(hold)
    assert pipe.recv() == "held"
    assert not Lease(store, "base/x").acquire(block=False)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    lease = Lease(store, "base/x")
    assert lease.acquire(block=False)
    assert lease.fence == 2
    lease.release()


@pytest.mark.criterion("T48")
def test_a_paused_holder_is_replaced_and_finds_out_when_it_wakes(store: Store, child: Callable) -> None:
    interval_s = 0.1

    def hold(pipe: Connection) -> None:
        lease = Lease(store, "base/x", interval_s=interval_s)
        lease.acquire()
        pipe.send("held")
        pipe.recv()
        try:
            lease.check()
            pipe.send("still held")
        except LeaseLost as error:
            pipe.send(str(error))

    pid, pipe = child(hold)
    assert pipe.recv() == "held"
    os.kill(pid, signal.SIGSTOP)
    with Lease(store, "base/x", interval_s=interval_s) as lease:
        assert lease.fence == 2
        os.kill(pid, signal.SIGCONT)
        pipe.send("wake")
        assert pipe.poll(30)
        assert pipe.recv() != "still held"
        lease.check()
