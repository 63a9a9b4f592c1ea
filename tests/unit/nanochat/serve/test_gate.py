"""Slots are given in order, waiting has an end, and nobody who goes away keeps one."""

from __future__ import annotations

import asyncio

import pytest

from nanochat.serve.api.errors import ApiError
from nanochat.serve.gate import Gate


def test_slots_then_a_queue_then_nothing() -> None:
    async def main() -> None:
        gate = Gate(slots=2, queue=1)
        await gate.enter(1)
        await gate.enter(1)
        waiting = asyncio.create_task(gate.enter(1))
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as refusal:
            await gate.enter(1)
        assert (refusal.value.status_code, refusal.value.code) == (429, "queue_full")
        assert int((refusal.value.headers or {})["Retry-After"]) >= 1
        assert (gate.inside, gate.waiting) == (2, 1)
        gate.leave()
        await waiting
        assert (gate.inside, gate.waiting) == (2, 0)

    asyncio.run(main())


def test_first_come_first_served() -> None:
    async def main() -> None:
        gate, order = Gate(slots=1, queue=5), []

        async def one(name: int) -> None:
            await gate.enter(1)
            order.append(name)
            gate.leave()

        await gate.enter(1)
        tasks = []
        for name in range(4):
            tasks.append(asyncio.create_task(one(name)))
            await asyncio.sleep(0)
        gate.leave()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3]
        assert (gate.inside, gate.waiting) == (0, 0)

    asyncio.run(main())


def test_waiting_too_long_is_a_429_and_who_gives_up_leaves_no_trace() -> None:
    async def main() -> None:
        gate = Gate(slots=1, queue=5)
        await gate.enter(1)
        with pytest.raises(ApiError) as refusal:
            await gate.enter(0.01)
        assert (refusal.value.status_code, refusal.value.code) == (429, "queue_wait")
        gone = asyncio.create_task(gate.enter(9))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert (gate.inside, gate.waiting) == (1, 0)
        gate.leave()
        await asyncio.wait_for(gate.enter(1), 1)

    asyncio.run(main())
