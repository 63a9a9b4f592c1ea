"""A Prefect server for one run, where none is configured: it starts beside the run and ends with it.

Prefect can start one too, but later (it imports the whole server into the flow's process first), and one
that a killed run leaves behind stays.
"""

from __future__ import annotations

import atexit
import socket

from artifacts.errors import ResourceError
from flows.launch import STOP
from flows.processes.server_process import PYTHON, ServerProcess
from flows.settings import PROJECT_ROOT

_START_S = 120  # where it has to make its database: 20 s on two idle cores
_STOP_S = 5


class EmbeddedServer:
    """Prefect's API on a free loopback port. For the main thread: the server lives as long as that."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.api_url = f"http://127.0.0.1:{port}/api"
        uvicorn = [
            *PYTHON, "-m", "uvicorn", "--factory", "flows.services.prefect_api:create",
            "--app-dir", str(PROJECT_ROOT), "--host", "127.0.0.1", "--port", str(port),
            "--log-level", "error", "--lifespan", "on",
        ]  # fmt: skip
        settings = {
            "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1", "PREFECT_UI_ENABLED": "0",
            # Block types are for forms of the UI; a server that has one adds them, for nothing notes
            # them as done here.
            "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "0",
            "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "0",
        }  # fmt: skip
        self._process = ServerProcess(uvicorn, "127.0.0.1", port, "/api/health", settings)
        atexit.register(self.stop)

    def wait(self) -> None:
        """Until it answers. ResourceError if it ends or says nothing for two minutes; Ctrl-C: Interrupted."""
        if not self._process.becomes_ready(_START_S, STOP.check):
            code = self._process.poll()
            what = "does not answer" if code is None else f"ended with exit code {code}"
            hint = "see what it printed; or start one (prefect server start) and set PREFECT_API_URL"
            raise ResourceError(f"Prefect's embedded server {what}", hint)

    def stop(self) -> None:
        """End it; by force if it takes too long."""
        self._process.stop(_STOP_S)
