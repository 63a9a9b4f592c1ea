"""Two ranks over gloo, in processes of their own: exact resume, agreement with one rank, and a death."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from artifacts.errors import NanochatError
from nanochat.train.checkpoint import load_checkpoint
from tests.fault.train.ranks import CUTS
from tests.golden.toy import Outcome, train_toy

EXIT_SECONDS = 60  # of a rank whose peer is gone


def start(folder: Path, *arguments: str) -> list[subprocess.Popen[str]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "tests.fault.train.ranks", str(folder), *arguments]
    return [
        subprocess.Popen(program, env={**os.environ, **common, "RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]


def cut(folder: Path, step: int) -> None:
    """A run of one rank that ends at the beginning of ``step``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_FAULT_FILE", str(folder.with_name("fault")))
        folder.with_name("fault").write_text(f"sft {step}")
        with pytest.raises(NanochatError, match="planned fault"):
            train_toy(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def one(folder: Path) -> Outcome:
    """One rank; and, in ``from-one``, what it left when it was cut at step 10."""
    cut(folder / "from-one", 10)
    return train_toy(folder / "one")


@pytest.fixture(scope="module")
def death(folder: Path) -> subprocess.Popen[str]:
    """Rank 0 after rank 1 was killed by SIGKILL at step 11."""
    survivor, victim = start(folder, "11")
    assert victim.wait(timeout=300) == -9
    survivor.wait(timeout=EXIT_SECONDS)
    return survivor


@pytest.fixture(scope="module")
def two(folder: Path, one: Outcome, death: object) -> list[dict[str, Outcome]]:
    """What each of two ranks saw; see ``ranks.main``."""
    for process in start(folder):
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    saved = [torch.load(folder / f"{rank}.pt") for rank in range(2)]
    return [{name: Outcome(**values) for name, values in of_rank.items()} for of_rank in saved]


def gap(mine: Outcome, theirs: Outcome, steps: slice) -> float:
    return max(abs(a - b) / b for a, b in zip(mine.losses[steps], theirs.losses[steps], strict=True))


@pytest.mark.criterion("T06")
@pytest.mark.parametrize("step", CUTS)
def test_two_killed_and_resumed_ranks_equal_two_uninterrupted_ones_bit_for_bit(two, step: int) -> None:
    for rank in two:
        assert rank[f"cut-{step}"] == rank["whole"]
    assert two[0]["whole"] == two[1]["whole"]


@pytest.mark.criterion("T32")
def test_one_rank_and_two_agree(one, two) -> None:
    assert gap(two[0]["whole"], one, slice(0, 11)) <= 1e-5


@pytest.mark.criterion("T08")
def test_one_rank_s_checkpoint_goes_on_with_two(one, two) -> None:
    assert two[0]["from-one"].losses[:8] == one.losses[:8]
    assert gap(two[0]["from-one"], one, slice(8, 9)) <= 1e-5
    assert two[0]["from-one"].losses[8] != one.losses[8]  # or two ranks would not have computed it
    assert gap(two[0]["from-one"], one, slice(8, 20)) <= 1e-4


@pytest.mark.criterion("T08")
def test_two_ranks_checkpoint_goes_on_with_one(folder: Path, two) -> None:
    resumed = train_toy(folder / "for-one")
    assert resumed.losses[:8] == two[0]["whole"].losses[:8]
    assert gap(resumed, two[0]["whole"], slice(8, 9)) <= 1e-5
    assert gap(resumed, two[0]["whole"], slice(8, 20)) <= 1e-4


@pytest.mark.criterion("T16")
def test_a_rank_ends_when_another_dies_and_both_can_go_on(death, two) -> None:
    assert death.returncode not in (0, None)
    assert two[0]["killed"] == two[0]["whole"]


def test_a_checkpoint_of_two_ranks_holds_the_state_of_one(folder: Path, one, two) -> None:
    mine, theirs = (
        load_checkpoint(folder / name / "checkpoints" / "step-00000020")[0] for name in ("whole", "one")
    )
    assert {name: tensor.shape for name, tensor in mine.items()} == {n: t.shape for n, t in theirs.items()}
