from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts.errors import NanochatError
from nanochat.records import RecordWriter, read_records
from nanochat.train.step_log import StepLog, StepResult

CPU = torch.device("cpu")


def log_of(folder: Path, counters: dict[str, Any], every: int = 1) -> StepLog:
    records = RecordWriter(folder / "records.jsonl", "base")
    return StepLog("base", 4, every, CPU, counters, records, flops_per_token=2.0, peak_flops=1e3)


def step(
    log: StepLog, counters: dict[str, Any], loss: float = 1.0, norm: float = 1.0, scale: float | None = None
) -> None:
    counters["step"], counters["tokens"] = counters["step"] + 1, counters["tokens"] + 10
    factor = None if scale is None else torch.tensor(scale)
    log.add(StepResult(torch.tensor(loss), 10, {"rl/reward": 0.5}), torch.tensor(norm), 0.7, factor)


def fresh() -> dict[str, Any]:
    return {"step": 0, "tokens": 0, "train": []}


def recorded(folder: Path, name: str) -> list[tuple[int, int, Any]]:
    lines = read_records(folder / "records.jsonl")
    return [(line["step"], line["tokens"], line["value"]) for line in lines if line["name"] == name]


def test_records_have_the_numbers_of_their_own_step(tmp_path: Path) -> None:
    counters = fresh()
    log = log_of(tmp_path, counters, every=2)
    for number in range(4):
        step(log, counters, loss=float(number), norm=number + 0.5)
    assert recorded(tmp_path, "train/loss") == [(2, 20, 1.0), (4, 40, 3.0)]
    assert recorded(tmp_path, "train/grad_norm") == [(2, 20, 1.5), (4, 40, 3.5)]
    assert recorded(tmp_path, "rl/reward") == [(2, 20, 0.5), (4, 40, 0.5)]
    rates, shares = recorded(tmp_path, "train/tokens_per_second"), recorded(tmp_path, "train/mfu")
    assert [share[2] for share in shares] == pytest.approx([rate[2] * 2 / 1e3 for rate in rates])
    assert counters["train"] == [[0, 0.0], [1, 1.0], [2, 2.0], [3, 3.0]]


def test_ahead_a_step_is_read_while_the_next_one_runs(tmp_path: Path) -> None:
    counters = fresh()
    log = log_of(tmp_path, counters)
    log._ahead = True
    step(log, counters, loss=5.0)
    assert counters["train"] == []
    step(log, counters, loss=6.0)
    assert counters["train"] == [[0, 5.0]]
    log.settle()
    log.settle()
    assert counters["train"] == [[0, 5.0], [1, 6.0]]
    assert recorded(tmp_path, "train/loss") == [(1, 10, 5.0), (2, 20, 6.0)]


@pytest.mark.criterion("T15")
@pytest.mark.parametrize(("loss", "norm", "said"), [("nan", "1", "loss is nan"), ("1", "inf", "norm is inf")])
def test_a_number_that_is_not_finite_ends_the_run_with_its_step(
    tmp_path: Path, loss: str, norm: str, said: str
) -> None:
    counters = fresh()
    log = log_of(tmp_path, counters)
    step(log, counters)
    with pytest.raises(NanochatError, match=f"base: .*{said} at step 1, which left the weights unchanged"):
        step(log, counters, float(loss), float(norm))
    assert recorded(tmp_path, "train/loss") == [(1, 10, 1.0)]


def test_with_a_loss_scale_an_overflow_is_a_step_skipped_and_counted(tmp_path: Path) -> None:
    counters = fresh()
    log = log_of(tmp_path, counters)
    step(log, counters, norm=float("inf"), scale=32768.0)
    step(log, counters, norm=2.0, scale=32768.0)
    assert recorded(tmp_path, "train/skipped_steps") == [(1, 10, 1), (2, 20, 1)]
    assert recorded(tmp_path, "train/grad_norm") == [(2, 20, 2.0)]
    with pytest.raises(NanochatError, match="gradient norm is nan at step 2"):
        step(log, counters, norm=float("nan"), scale=2.0**-11)
