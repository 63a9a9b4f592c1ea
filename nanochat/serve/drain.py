"""The end of a server: nothing new is begun, what is being answered may end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Drain:
    """Counts what is being answered. For one event loop."""

    def __init__(self) -> None:
        self.begun = False
        self.active = 0
        self._empty = asyncio.Event()

    def begin(self) -> None:
        """Take nothing new."""
        self.begun = True
        if not self.active:
            self._empty.set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """While one answer is being made."""
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            if self.begun and not self.active:
                self._empty.set()

    async def ended(self, within_s: float) -> None:
        """Until all is answered, or for so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), within_s)
