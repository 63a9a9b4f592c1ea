"""Signals to a real process: a stop loses no step, and who insists is not kept waiting."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanochat.records import read_records
from nanochat.runtime import STOPPED_EXIT_CODE
from tests.golden.toy import Outcome, train_toy

PROGRAM = """if True:
    import sys, time
    from pathlib import Path
    from nanochat.train import loop
    from tests.golden.toy import train_toy

    folder, stuck_at = Path(sys.argv[1]), int(sys.argv[2])

    def slowly(_, step):
        Path(folder, "now").write_text(str(step))
        time.sleep(600 if step == stuck_at else 0.1)

    loop.planned_fault = slowly
    train_toy(folder)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train_toy(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def run(tmp_path: Path, repository: Path) -> Iterator[Callable[[int, int], subprocess.Popen[bytes]]]:
    """``run(6, 99)``: a process that has come to step 6, maybe once more, and would be stuck at step 99."""
    started: list[subprocess.Popen[bytes]] = []

    def start(until: int, stuck_at: int) -> subprocess.Popen[bytes]:
        (tmp_path / "now").unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(stuck_at)], cwd=repository
        )
        started.append(process)
        while not (tmp_path / "now").exists() or (tmp_path / "now").read_text() != str(until):
            assert process.poll() is None, "it ended early"
            time.sleep(0.01)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.criterion("T10")
def test_sigterm_loses_no_step(tmp_path: Path, run, whole: Outcome) -> None:
    process = run(6, 99)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == STOPPED_EXIT_CODE
    steps = [r["step"] for r in read_records(tmp_path / "records.jsonl") if r["name"] == "train/loss"]
    assert steps[-1] >= 7
    assert (tmp_path / "checkpoints" / f"step-{steps[-1]:08d}" / "manifest.json").exists()
    assert train_toy(tmp_path) == whole


@pytest.mark.criterion("T10")
def test_a_second_sigint_ends_it_at_once(tmp_path: Path, run, whole: Outcome) -> None:
    """Within a second where the machine is free; here, long before the step would have ended."""
    process = run(6, 6)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)  # the first one waits for the step to end
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) not in (0, STOPPED_EXIT_CODE)
    assert train_toy(tmp_path) == whole
