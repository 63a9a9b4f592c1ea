"""The rows that fit: by halving, on every rank, with all of a step in memory; kept for a resumed run."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from artifacts.errors import NanochatError, ResourceError
from nanochat.config.model import ModelConfig
from nanochat.data.loader import Batch
from nanochat.model.gpt import GPT
from nanochat.model.memory import Batch as Pass
from nanochat.model.memory import training_memory
from nanochat.train import probe, supervised
from nanochat.train.checkpoint import load_checkpoint
from nanochat.train.probe import FittingLoader, rows_that_fit, try_pass
from nanochat.train.state import random_state
from tests.golden.toy import Outcome, train_toy

SHAPE = ModelConfig(depth=2, width=32, num_heads=2, num_kv_heads=2, vocab_size=64, seq_len=16)
CPU = torch.device("cpu")


class Limited:
    """Memory for ``most`` rows."""

    def __init__(self, most: int) -> None:
        self.most, self.tried = most, []

    def __call__(self, rows: int) -> None:
        self.tried.append(rows)
        if rows > self.most:
            raise torch.OutOfMemoryError(f"tried to allocate memory for {rows} rows")


@pytest.mark.parametrize(
    ("micro_batch", "most", "tried"),
    [
        (32, 99, [32]), (32, 32, [32]), (32, 9, [32, 16, 8]), (32, 1, [32, 16, 8, 4, 2, 1]),
        (12, 3, [12, 6, 3]), (9, 5, [9, 3]), (7, 6, [7, 1]), (30, 7, [30, 15, 6]),
    ],
)  # fmt: skip
def test_rows_are_halved_to_divisors_until_they_fit(micro_batch: int, most: int, tried: list[int]) -> None:
    memory = Limited(most)
    assert rows_that_fit(micro_batch, CPU, memory) == tried[-1]
    assert memory.tried == tried
    assert all(micro_batch % rows == 0 for rows in tried)


def test_no_row_that_fits_is_no_row_and_another_error_is_not_about_rows() -> None:
    assert rows_that_fit(4, CPU, Limited(0)) == 0

    def broken(rows: int) -> None:
        raise RuntimeError("no kernel image is available")

    with pytest.raises(RuntimeError, match="kernel image"):
        rows_that_fit(4, CPU, broken)


def test_a_pass_changes_nothing_that_lasts() -> None:
    torch.manual_seed(0)
    model = GPT(SHAPE)
    model.init_weights()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}, random_state()
    for passes in (1, 2):
        try_pass(model, Pass(4, passes))
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in model.state_dict().items())
    assert random_state() == before[1]
    assert all(param.grad is None for param in model.parameters())


@pytest.mark.parametrize("passes", [1, 2])
def test_state_gradients_and_update_are_in_memory_with_the_pass(
    monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    model, held, seen = GPT(SHAPE), [], []
    model.init_weights()
    hold, loss = probe._hold, model.loss
    monkeypatch.setattr(probe, "_hold", lambda size, device: held.append(size) or hold(size, device))
    monkeypatch.setattr(
        model, "loss",
        lambda inputs, targets: seen.append((inputs, targets, list(held), model.head.weight.grad is not None))
        or loss(inputs, targets),
    )  # fmt: skip
    size = Pass(4, passes, number_bytes=4)
    try_pass(model, size)
    memory = training_memory(SHAPE, size)
    state = memory.muon_momentum + memory.muon_variance + memory.adamw_moments
    (inputs, targets, before, had_gradients) = seen[0]
    assert inputs.shape == targets.shape == (4, 16)
    assert int(targets.min()) >= 0
    assert before == [state]
    assert held == [state, memory.update]
    assert had_gradients == (passes > 1)


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """A machine where more than ``most`` rows run out of memory; the rows that the probe tried."""
    tried: list[int] = []

    def limited_pass(model: GPT, size: Pass) -> None:
        tried.append(size.rows)
        assert size.rows * size.passes == 8
        try_pass(model, size)
        if size.rows > most:
            raise torch.OutOfMemoryError("tried to allocate 20.00 GiB")

    monkeypatch.setattr(probe, "try_pass", limited_pass)
    monkeypatch.setattr(supervised, "needs_probe", lambda device: True)
    return tried


def steps_apart(mine: Outcome, theirs: Outcome) -> float:
    return max(abs(a - b) / b for a, b in zip(mine.losses, theirs.losses, strict=True))


def test_training_goes_on_with_the_rows_that_fit_and_a_resumed_run_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unlimited = train_toy(tmp_path / "unlimited", steps=12)
    tried = limited(monkeypatch, 3)
    caplog.set_level(logging.INFO)
    whole = train_toy(tmp_path / "whole", steps=12)
    assert tried == [8, 4, 2]
    assert "2 of micro_batch = 8 rows fit into a pass" in caplog.messages
    assert steps_apart(whole, unlimited) < 1e-5
    assert whole != unlimited  # it was cut otherwise
    monkeypatch.setenv("NANOCHAT_FAULT_FILE", str(tmp_path / "fault"))
    (tmp_path / "fault").write_text("sft 6")
    with pytest.raises(NanochatError, match="planned fault"):
        train_toy(tmp_path / "cut", steps=12)
    (tmp_path / "fault").unlink()
    state = load_checkpoint(tmp_path / "cut/checkpoints/step-00000004")[1]
    assert state["loader"]["rows"] == [2, 1]
    tried = limited(monkeypatch, 8)  # even where more would fit now
    assert train_toy(tmp_path / "cut", steps=12) == whole
    assert tried == []


def test_other_ranks_have_other_memory_and_try_again_from_the_rows_of_the_batches() -> None:
    class Empty:
        def next(self) -> Batch:
            return cast("Batch", None)

        def state_dict(self) -> dict[str, Any]:
            return {"position": 5}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            assert state == {"position": 5}

    asked: list[int] = []
    first = FittingLoader(Empty(), 8, lambda most: asked.append(most) or 4, ranks=2)
    first.next(1)
    for ranks, expected in [(2, [8]), (1, [8, 8])]:
        resumed = FittingLoader(Empty(), 8, lambda most: asked.append(most) or 2, ranks=ranks)
        resumed.load_state_dict(first.state_dict())
        resumed.next(1)
        assert asked == expected


def test_without_a_probe_the_state_is_the_loaders_own(tmp_path: Path) -> None:
    train_toy(tmp_path, steps=4)
    assert "rows" not in load_checkpoint(tmp_path / "checkpoints/step-00000004")[1]["loader"]


def test_one_row_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = limited(monkeypatch, 0)
    with pytest.raises(ResourceError) as caught:
        train_toy(tmp_path, steps=4)
    assert tried == [8, 4, 2, 1]
    said = str(caught.value)
    assert said.startswith(
        "sft: one row of 32 tokens does not fit into the GPU's memory: training needs about "
    )
    assert "bytes (set sft.activation_checkpointing=true" in said
    assert "\n" not in said


PROGRAM = """if True:
    import json, resource
    from pathlib import Path
    import torch
    from nanochat.config.model import ModelConfig
    from nanochat.model.gpt import GPT
    from nanochat.model.memory import Batch
    from nanochat.train.probe import rows_that_fit, try_pass

    shape = ModelConfig(depth=2, width=32, num_heads=2, num_kv_heads=2, vocab_size=64, seq_len=128)
    model = GPT(shape)
    model.init_weights()

    def try_rows(rows):
        try:
            try_pass(model, Batch(rows, number_bytes=4))
        except RuntimeError as error:  # a GPU's is OutOfMemoryError, which is a RuntimeError too
            assert "can't allocate memory" in str(error), error
            raise torch.OutOfMemoryError(str(error)) from None

    try_rows(1)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (160 << 20), resource.RLIM_INFINITY))
    tried = []
    rows = rows_that_fit(2048, model.device, lambda rows: tried.append(rows) or try_rows(rows))
    resource.setrlimit(resource.RLIMIT_AS, (now + (224 << 20), resource.RLIM_INFINITY))  # a GPU's SPARE
    for _ in range(3):
        try_rows(rows)
    print(json.dumps({"rows": rows, "tried": tried}))
"""


def test_where_memory_really_runs_out_the_rows_found_do_fit(repository: Path) -> None:
    allocator = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back at once
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, **allocator, "PYTHONPATH": str(repository)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert 8 <= found["rows"] <= 512
    assert found["tried"] == [2048 >> n for n in range(len(found["tried"]))]
