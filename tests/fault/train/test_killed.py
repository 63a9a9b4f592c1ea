"""A training process killed by SIGKILL and started again ends as an undisturbed one, to the last bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanochat.train.checkpoint import load_checkpoint
from tests.golden.toy import Outcome, train_toy

STEPS = 40
CUTS = [1, 6, 20, 27, 39]

# Forks before torch has threads, so that one import serves all cuts.
PROGRAM = """if True:
    import os, signal, sys
    from pathlib import Path
    from nanochat.train import loop
    from tests.golden.toy import train_toy

    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    for cut in map(int, sys.argv[3:]):
        if os.fork() == 0:
            loop.planned_fault = lambda _, step: step == cut and os.kill(os.getpid(), signal.SIGKILL)
            train_toy(folder / str(cut), steps=steps)
            os._exit(0)
        assert os.wait()[1] == signal.SIGKILL
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """What a run killed at the beginning of step N left stands in N."""
    made = tmp_path_factory.mktemp("killed")
    program = [sys.executable, "-c", PROGRAM, str(made), str(STEPS), *map(str, CUTS)]
    subprocess.run(program, cwd=repository, check=True, timeout=300)
    return made


@pytest.fixture(scope="module")
def whole(folder: Path) -> Outcome:
    return train_toy(folder / "whole", steps=STEPS)


@pytest.mark.criterion("T06")
@pytest.mark.parametrize("step", CUTS)
def test_a_run_that_goes_on_after_sigkill_equals_an_undisturbed_one(
    folder: Path, whole: Outcome, step: int
) -> None:
    assert train_toy(folder / str(step), steps=STEPS) == whole
    mine, theirs = (
        load_checkpoint(folder / name / "checkpoints" / f"step-{STEPS:08d}") for name in (str(step), "whole")
    )
    assert mine[0].keys() == theirs[0].keys()
    assert all(torch.equal(tensor, theirs[0][name]) for name, tensor in mine[0].items())
    assert mine[1]["counters"] == theirs[1]["counters"]
