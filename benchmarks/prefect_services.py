"""What ``nanochat up`` starts, for a benchmark: in folders of its own, on free ports, ended after it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

BIN = Path(sys.executable).parent
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
# A lock on SQLite's file is answered with 503, and the client asks again; with this the log tells of it.
COUNTED = {"PREFECT_SERVER_LOG_RETRYABLE_ERRORS": "true"}


class Services:
    """``with Services(folder) as services:``; ``services.environment`` is that of a terminal beside it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.home = folder / "home"
        self.environment = environment(folder) | COUNTED | settings
        self._ports = _free_port(), _free_port()
        self.api = f"http://127.0.0.1:{self._ports[0]}/api"

    def __enter__(self) -> Self:
        port, web_port = map(str, self._ports)
        nanochat(["up", "--port", port, "--web-port", web_port], self.environment)
        self.environment["PREFECT_API_URL"] = self.api
        return self

    def __exit__(self, *exception: object) -> None:
        nanochat(["down"], self.environment)

    @property
    def server_log(self) -> str:
        """What the server said so far."""
        return (self.home / "services/server.log").read_text(encoding="utf-8", errors="replace")

    def ask(self, path: str, **query: Any) -> Any:
        """A POST with ``query``, or without one a GET."""
        body = json.dumps(query).encode() if query else None
        request = urllib.request.Request(f"{self.api}/{path}", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def run(self, deployment: str, **params: Any) -> str:
        """Run a deployment to its end; its id. It has to complete."""
        its_id = self.ask(f"deployments/name/{deployment}")["id"]
        run = self.ask(f"deployments/{its_id}/create_flow_run", parameters={"params": params})
        while (run := self.ask(f"flow_runs/{run['id']}"))["state_type"] not in ENDS:
            time.sleep(0.1)
        assert run["state_type"] == "COMPLETED", run["state"]
        return str(run["id"])


def environment(folder: Path) -> dict[str, str]:
    """That of a terminal whose Nanochat and Prefect keep everything below ``folder``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    prefect = folder / "prefect"
    return kept | {
        "NANOCHAT_HOME": str(folder / "home"), "PREFECT_HOME": str(prefect),
        "PREFECT_PROFILES_PATH": str(prefect / "profiles.toml"), "DO_NOT_TRACK": "1",
    }  # fmt: skip


def nanochat(arguments: list[str], environment: dict[str, str]) -> str:
    """A command as a user types it; what it printed. It has to succeed."""
    return finish([str(BIN / "nanochat"), *arguments], environment)


def finish(command: list[str], environment: dict[str, str]) -> str:
    """A command that has to succeed; what it printed."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
