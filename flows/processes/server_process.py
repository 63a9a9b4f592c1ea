"""A server beside this process: started, asked until it answers, ended; a killed parent leaves none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import Any

PYTHON = [sys.executable, "-P"]  # never a module of the folder that it happens to be in
_ASK_S, _ASK_AGAIN_S = 5, 0.05


class ServerProcess(subprocess.Popen[bytes]):
    """``command``, running; it ends with this thread. ``health`` is the path that it answers with 200."""

    def __init__(
        self, command: list[str], host: str, port: int, health: str, settings: Mapping[str, str], **how: Any
    ) -> None:
        self._host, self._port, self._health = host, port, health
        environment = {**os.environ, **settings, "NANOCHAT_PARENT_PID": str(os.getpid())}
        wrapped = [*PYTHON, "-m", "flows.processes.exec_wrapper", "SIGTERM", *command]
        super().__init__(wrapped, env=environment, stdin=subprocess.DEVNULL, **how)

    def becomes_ready(
        self,
        timeout_s: float,
        check: Callable[[], None] = lambda: None,
        also: Callable[[], bool] = lambda: True,
    ) -> bool:
        """True once it answers and ``also`` is true, False if it ends or takes too long.

        ``check`` may raise between questions.
        """
        deadline = time.monotonic() + timeout_s
        while answer_of(self._host, self._port, self._health) is None or not also():
            check()
            if self.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(_ASK_AGAIN_S)
        return True

    def stop(self, grace_s: float) -> None:
        """End it; by force if it takes longer."""
        self.terminate()
        try:
            self.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()


def answer_of(host: str, port: int, path: str) -> bytes | None:
    """The body that a server on this machine answers with status 200; None for any other answer, or none."""
    connection = HTTPConnection(host, port, timeout=_ASK_S)
    with closing(connection), suppress(OSError, HTTPException):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    return None
