"""A worker that is told to stop lets its runs save first; one that ends by itself says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Start = Callable[[], subprocess.Popen[bytes]]

# In place of Prefect: a worker that starts one run and, told to stop, ends at once. The run saves, then ends.
# Short sleeps, as one that begins just after a signal has come is not woken by it.
FAKE = """
import pathlib, signal, subprocess, sys, time
folder = pathlib.Path(__file__).parent
if sys.argv[1:] == ["run"]:
    def save(*_):
        time.sleep(0.5)
        (folder / "saved").touch()
        sys.exit(0)
    signal.signal(signal.SIGTERM, save)
    (folder / "running").touch()
    while True:
        time.sleep(0.05)
(folder / "arguments").write_text(" ".join(sys.argv[1:]))
if (folder / "broken").exists():
    sys.exit(3)
run = subprocess.Popen([sys.executable, __file__, "run"])
def end(*_):
    (folder / "ended").write_text("after" if (folder / "saved").exists() else "before")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
run.wait()
while True:
    time.sleep(0.05)
"""


@pytest.fixture
def prefect(tmp_path: Path) -> Path:
    """The folder of the stand-in, which leaves its traces there."""
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect/__init__.py").touch()
    (tmp_path / "prefect/__main__.py").write_text(FAKE)
    return tmp_path / "prefect"


@pytest.fixture
def worker(prefect: Path, repository: Path) -> Iterator[Start]:
    """``worker()`` starts one; none outlives the test."""
    started = []

    def start() -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(prefect.parent)}
        command = [sys.executable, "-P", "-m", "deployments.worker", "gpu"]
        started.append(subprocess.Popen(command, env=environment, cwd=repository))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(path: Path) -> None:
    for _ in range(400):
        if path.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"no {path.name}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_waits_for_its_runs_before_it_ends_the_worker(
    number: int, prefect: Path, worker: Start
) -> None:
    process = worker()
    wait_for(prefect / "running")
    process.send_signal(number)
    assert process.wait(60) == 0
    assert (prefect / "ended").read_text() == "after"


def test_it_is_a_worker_of_the_pool_whose_name_ends_with_the_host(prefect: Path, worker: Start) -> None:
    (prefect / "broken").touch()
    assert worker().wait(60) == 3
    said = (prefect / "arguments").read_text()
    assert said.startswith(f"worker start --pool gpu --name gpu-{os.uname().nodename} --type process")
