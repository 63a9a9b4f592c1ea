"""``python -m tests.fault.train.ranks FOLDER [KILL_STEP]``: one rank of several; torchrun's variables say which.

With KILL_STEP the last rank kills itself there. Without, all go through ``main``, and each saves its outcomes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from artifacts.errors import NanochatError
from nanochat.runtime import StageContext
from nanochat.train import loop
from nanochat.train.setup import process_group
from tests.golden.toy import ROWS_A_STEP, Outcome, train_toy

CUTS = [1, 6, 10, 13, 19]
CPU = torch.device("cpu")


class Rank:
    """This process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rank, self.count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.last = self.rank == self.count - 1

    def group(self) -> Any:
        """The process group of all ranks."""
        ctx = StageContext({}, self.folder, self.folder, self.folder, 0, self.rank, self.count)
        return process_group(ctx, CPU)

    def train(self, name: str) -> Outcome:
        """Run, or go on with, the folder of this name."""
        rows = ROWS_A_STEP // self.count
        return train_toy(self.folder / name, micro_batch=rows, rank=self.rank, world_size=self.count)

    def cut(self, name: str, step: int) -> None:
        """Run until all ranks end at the beginning of ``step``, as if killed there."""
        os.environ["NANOCHAT_FAULT_FILE"] = str(self.folder / f"fault-{self.rank}")
        Path(os.environ["NANOCHAT_FAULT_FILE"]).write_text(f"sft {step}")
        try:
            self.train(name)
        except NanochatError as error:
            assert "planned fault" in error.message
        else:
            raise AssertionError("it did not end")
        finally:
            del os.environ["NANOCHAT_FAULT_FILE"]


def main(me: Rank) -> None:
    """All parts, in this order on every rank."""
    outcomes = {"whole": me.train("whole")}
    for step in CUTS:
        me.cut(f"cut-{step}", step)
        outcomes[f"cut-{step}"] = me.train(f"cut-{step}")
    outcomes["from-one"] = me.train("from-one")
    outcomes["killed"] = me.train("killed")
    me.cut("for-one", 10)
    torch.save({name: vars(outcome) for name, outcome in outcomes.items()}, me.folder / f"{me.rank}.pt")


def killed(me: Rank, step: int) -> None:
    """Train until the last rank is gone."""

    def fault(_: str, now: int) -> None:
        if me.last and now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    loop.planned_fault = fault
    me.train("killed")


if __name__ == "__main__":
    me = Rank(Path(sys.argv[1]))
    with me.group():
        if len(sys.argv) > 2:
            killed(me, int(sys.argv[2]))
        else:
            main(me)
