"""The end comes when nothing is being answered any more, or when that takes too long."""

from __future__ import annotations

import asyncio
import time

import pytest

from nanochat.serve.drain import Drain


@pytest.mark.parametrize(("work_s", "within_s"), [(0.1, 60.0), (60.0, 0.1), (0.0, 60.0)])
def test_it_waits_for_what_is_being_answered(work_s: float, within_s: float) -> None:
    async def main() -> float:
        drain = Drain()

        async def work() -> None:
            with drain.one():
                await asyncio.sleep(work_s)

        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        start = time.monotonic()
        drain.begin()
        await drain.ended(within_s)
        task.cancel()
        return time.monotonic() - start

    assert asyncio.run(main()) < 30
