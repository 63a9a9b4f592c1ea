"""Server-sent events, and noticing that nobody listens any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

SendText = Callable[[str], Awaitable[None]]
T = TypeVar("T")


class ClientGone(Exception):
    """Whoever asked has hung up."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``; when the client hangs up, it is cancelled and ClientGone raised."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Sends what ``write`` does; ``end`` is called however that ends, after at most ``seconds``."""

    media_type = "text/event-stream"

    def __init__(
        self, write: Callable[[SendText], Coroutine[Any, Any, None]], end: Callable[[], Awaitable[None]],
        seconds: float,
    ) -> None:  # fmt: skip
        self._write, self._end, self._seconds = write, end, seconds
        self.status_code, self.background = 200, None
        self.init_headers({"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def event(data: str) -> None:
            body = f"data: {data}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})

        async def everything() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._write(event)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        try:
            async with asyncio.timeout(self._seconds):  # who listens without reading does not stay for ever
                await unless_gone(receive, everything())
        except (ClientGone, OSError, TimeoutError):
            return
        finally:
            await self._end()
