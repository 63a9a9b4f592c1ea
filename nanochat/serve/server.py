"""Running the app: one process, one line that says where, and an end that lets answers end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from artifacts.errors import ResourceError, UsageError
from nanochat.serve.api.request_log import log_to_stderr
from nanochat.serve.settings import ServeSettings

_LAST_S = 3  # for connections that stay open after all is answered


class Server(uvicorn.Server):
    """uvicorn, which at the first signal goes on listening until what is being answered has ended."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, drain_s: float, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._drain, self._drain_s, self._ready = app.state.drain, drain_s, ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is None or self._drain.begun:
            self.should_exit = self.force_exit = True
        else:
            self._loop.call_soon_threadsafe(self._begin_end)

    def _begin_end(self) -> None:
        self._drain.begin()
        self._ending = self._ending or asyncio.create_task(self._end())

    async def _end(self) -> None:
        await self._drain.ended(self._drain_s)
        self.should_exit = True


def serve(app: FastAPI, listener: socket.socket, settings: ServeSettings, ready: Callable[[], None]) -> None:
    """Answer on ``listener`` until SIGTERM or SIGINT; what is being answered then has ``drain_s`` to end."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=_LAST_S, lifespan="on",
    )  # fmt: skip
    log_to_stderr()
    Server(config, app, settings.drain_s, ready).run(sockets=[listener])


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0: any that is free. UsageError for no port, ResourceError for one in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except OverflowError:
        raise UsageError(f"--port {port}", "from 0 to 65535") from None
    except OSError as error:
        said = f"port {port} of {host} cannot be used: {error.strerror}"
        raise ResourceError(said, "choose another: --port") from error


def address_of(listener: socket.socket) -> str:
    """What a browser opens."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
