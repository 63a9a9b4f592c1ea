"""Who may use a model now, who waits, and who is sent away."""

from __future__ import annotations

import asyncio

from nanochat.serve.api.errors import busy


class Gate:
    """Lets ``slots`` in at once and ``queue`` more wait, first come first served. For one event loop."""

    def __init__(self, slots: int, queue: int) -> None:
        self.slots, self._queue = slots, queue
        self._free = asyncio.Semaphore(slots)
        self.inside = self.waiting = 0

    async def enter(self, patience_s: float) -> None:
        """Wait for a slot. ApiError 429 with Retry-After if too many wait, or after ``patience_s``."""
        if self._free.locked() and self.waiting >= self._queue:
            raise busy(f"{self.waiting} requests are waiting already", self._retry_s(), "queue_full")
        self.waiting += 1
        try:
            async with asyncio.timeout(patience_s):
                await self._free.acquire()
        except TimeoutError:
            said = f"no slot was free for {patience_s:g} seconds"
            raise busy(said, self._retry_s(), "queue_wait") from None
        finally:
            self.waiting -= 1
        self.inside += 1

    def leave(self) -> None:
        """Give the slot back."""
        self.inside -= 1
        self._free.release()

    def _retry_s(self) -> float:
        return 1 + self.waiting / self.slots
