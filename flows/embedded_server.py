"""Prefect's embedded server, made to end with the run that started it.

Prefect stops it at exit, but not when the run is killed: it would stay behind, one more for each kill.
"""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any


def start_embedded_server() -> None:
    """Start the server that flows without a configured one use. For the main thread: it lives as long."""
    from prefect.server.api import server

    # The only hook: the module starts the process itself, and takes no command or options for it.
    vars(server)["subprocess"] = SimpleNamespace(Popen=_bound_to_us)
    server.SubprocessASGIServer().start()


def _bound_to_us(args: list[str], env: dict[str, str], **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows.exec_wrapper", "SIGTERM", *args]
    return subprocess.Popen(command, env={**env, "NANOCHAT_PARENT_PID": str(os.getpid())}, **options)
