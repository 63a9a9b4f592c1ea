"""The embedded server ends with the process that started it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil

PROGRAM = """
import os, sys, time
from flows.embedded_server import _bound_to_us
program = "import time; print('up', flush=True); time.sleep(60)"
print(_bound_to_us([sys.executable, "-c", program], env=dict(os.environ)).pid, flush=True)
time.sleep(60)
"""


def test_a_killed_run_leaves_no_server_behind() -> None:
    run = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert run.stdout
    server = psutil.Process(int(run.stdout.readline()))
    assert run.stdout.readline() == "up\n"
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    run.stdout.close()
    server.wait(20)
    assert not server.is_running()
