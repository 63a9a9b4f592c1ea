"""What training on next-token targets takes from its settings."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from artifacts.errors import UsageError
from nanochat.config.model import ModelConfig
from nanochat.config.optim import OptimConfig
from nanochat.config.training import TrainConfig
from nanochat.data.loader import ConversationLoader
from nanochat.model.gpt import GPT
from nanochat.optim.build import build_optimizer
from nanochat.runtime import StageContext
from nanochat.train.supervised import train_supervised

SHAPE = ModelConfig(depth=1, width=128, num_heads=2, num_kv_heads=2, vocab_size=64, seq_len=16)


def train(folder: Path, shape: ModelConfig, fp8: bool) -> tuple[list[tuple[int, float]], GPT]:
    torch.manual_seed(0)
    model = GPT(shape)
    model.init_weights()
    rows = [([(7 * i + j) % 64 for j in range(17)], [1] * 17) for i in range(8)]
    config = TrainConfig(
        steps=3, batch_tokens=2 * shape.seq_len, micro_batch=2, eval_every=3, log_every=1, fp8=fp8
    )
    curve = train_supervised(
        StageContext({}, folder, folder, folder), config, "sft", model, build_optimizer(model, OptimConfig()),
        ConversationLoader(rows, 2, shape.seq_len, 0), shape.seq_len, "val_loss", lambda: 1.0,
    )  # fmt: skip
    return curve.train, model


def test_fp8_is_multiplied_in_and_nothing_else_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exact, without = train(tmp_path / "exact", SHAPE, fp8=False)
    assert not any("fp8" in message for message in caplog.messages)
    caplog.set_level(logging.WARNING)
    mine, model = train(tmp_path / "fp8", SHAPE, fp8=True)
    assert any(message.startswith("fp8 on a CPU") for message in caplog.messages)
    assert [loss for _, loss in mine] == pytest.approx([loss for _, loss in exact], rel=0.05)
    assert mine != exact
    again = GPT(SHAPE)
    again.load_state_dict(model.state_dict())
    assert model.state_dict().keys() == without.state_dict().keys()


def test_fp8_for_a_model_of_small_matrices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp8: no matrix"):
        train(tmp_path, SHAPE.model_copy(update={"width": 32}), fp8=True)


def test_the_settings_that_decide_the_result_are_identity() -> None:
    fields = TrainConfig(steps=1, batch_tokens=8, micro_batch=1, eval_every=1).identity()
    assert "fp8" in fields
    assert "probe" not in fields
