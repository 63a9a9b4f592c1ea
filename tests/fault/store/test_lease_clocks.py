"""Leases of workers whose clocks are wrong, in any order of steps."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from artifacts.lease import MISSED_HEARTBEATS, Lease, LeaseLost
from artifacts.process import Process


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
