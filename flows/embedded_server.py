"""A Prefect server for one run, where none is configured: it starts beside the run and ends with it.

Prefect can start one too, but later (it imports the whole server into the flow's process first), and one
that a killed run leaves behind stays.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException

from artifacts.errors import ResourceError
from flows.launch import STOP
from flows.settings import PROJECT_ROOT

_START_S = 120  # where it has to make its database: 20 s on two idle cores
_STOP_S = 5


class EmbeddedServer:
    """Prefect's API on a free loopback port. For the main thread: the server lives as long as that."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.api_url = f"http://127.0.0.1:{self._port}/api"
        uvicorn = [
            "-m", "uvicorn", "--factory", "flows.embedded_api:create",
            "--app-dir", str(PROJECT_ROOT), "--host", "127.0.0.1", "--port", str(self._port),
            "--log-level", "error", "--lifespan", "on",
        ]  # fmt: skip
        python = [sys.executable, "-P"]  # never a module of the folder that the user happens to be in
        settings = {
            "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1", "PREFECT_UI_ENABLED": "0",
            # Block types are for forms of the UI; a server that has one adds them, for nothing notes
            # them as done here.
            "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "0",
            "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "0",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [*python, "-m", "flows.exec_wrapper", "SIGTERM", *python, *uvicorn],
            env={**os.environ, **settings, "NANOCHAT_PARENT_PID": str(os.getpid())},
        )
        atexit.register(self.stop)

    def wait(self) -> None:
        """Until it answers. ResourceError if it ends or says nothing for two minutes; Ctrl-C: Interrupted."""
        deadline = time.monotonic() + _START_S
        while not self._answers():
            STOP.check()
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                what = "does not answer" if code is None else f"ended with exit code {code}"
                hint = "see what it printed; or start one (prefect server start) and set PREFECT_API_URL"
                raise ResourceError(f"Prefect's embedded server {what}", hint)
            time.sleep(0.05)

    def stop(self) -> None:
        """End it; by force if it takes too long."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_STOP_S)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
