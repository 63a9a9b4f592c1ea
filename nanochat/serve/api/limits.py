"""How much one client may send and ask for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nanochat.serve.api.errors import ApiError, busy, error_response

MOST_CLIENTS = 10_000


class RateLimit:
    """``per_minute`` requests a client, of which as many may come at once; 0: any number."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = per_minute, clock
        self._left: dict[str, tuple[float, float]] = {}  # client -> (requests left, at that time)

    def take(self, client: str) -> None:
        """Count one request. ApiError 429 with Retry-After if the client has had enough."""
        if not self._most:
            return
        now = self._clock()
        left, before = self._left.pop(client, (float(self._most), now))
        left = min(self._most, left + (now - before) * self._most / 60)
        self._left[client] = (max(0.0, left - 1) if left >= 1 else left, now)
        if len(self._left) > MOST_CLIENTS:
            self._left.pop(next(iter(self._left)))  # who has been away longest
        if left < 1:
            raise busy(f"more than {self._most} requests a minute", (1 - left) * 60 / self._most)


class BodyLimit:
    """Middleware that counts what really comes: 413 after ``most`` bytes, announced or not."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._most:
            return await error_response(self._refusal())(scope, receive, send)
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise self._refusal()
            return message

        await self._app(scope, counted, send)

    def _refusal(self) -> ApiError:
        headers = {"Connection": "close"}  # what else the client sends is not read
        return ApiError(
            413, f"the body has more than {self._most} bytes", code="body_too_large", headers=headers
        )


def client_of(scope: Scope) -> str:
    """Whom a request counts for: its key, else its address."""
    state: dict[str, Any] = scope.get("state", {})
    return str(state.get("key") or (scope.get("client") or ("unknown",))[0])
