"""The embedded server ends with the process that started it, and says so when it cannot start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from artifacts.errors import ResourceError
from flows.services.embedded_server import EmbeddedServer

PROGRAM = """
import time
from flows.services.embedded_server import EmbeddedServer
print(EmbeddedServer()._process.pid, flush=True)
time.sleep(60)
"""


def test_a_killed_run_leaves_no_server_behind() -> None:
    run = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert run.stdout
    server = psutil.Process(int(run.stdout.readline()))
    deadline = time.monotonic() + 30
    while "flows.processes.exec_wrapper" in server.cmdline() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "flows.processes.exec_wrapper" not in server.cmdline()
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    run.stdout.close()
    server.wait(20)
    assert not server.is_running()


def test_a_server_that_cannot_start_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_LOGGING_LEVEL", "nonsense")
    server = EmbeddedServer()
    with pytest.raises(ResourceError, match="embedded server ended with exit code 1"):
        server.wait()
    server.stop()  # again at exit: stopping what has ended is no error
