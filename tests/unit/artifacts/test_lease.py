from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from artifacts.errors import DataError
from artifacts.lease import Holder, Lease, LeaseLost
from artifacts.process import Process
from artifacts.store import Store

ELSEWHERE = Process("another-host", 1, "1")
FORK = multiprocessing.get_context("fork")


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
