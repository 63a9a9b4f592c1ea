"""A training run of a second with everything of a real one: loader, loop, checkpoints, optimizer, ranks."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch

from nanochat.config.model import ARCHITECTURES, ModelConfig
from nanochat.config.optim import OptimConfig
from nanochat.config.training import TrainConfig
from nanochat.data.loader import ConversationLoader
from nanochat.model.gpt import GPT
from nanochat.optim.build import build_optimizer
from nanochat.runtime import StageContext
from nanochat.train.supervised import train_supervised
from nanochat.train.validate import mean_loss

SHAPE = {"depth": 3, "width": 48, "num_heads": 3, "num_kv_heads": 3, "vocab_size": 96, "seq_len": 32}
ROWS_A_STEP = 8


@dataclass(frozen=True)
class Outcome:
    """Training loss of every step, validation losses, and final weights."""

    losses: list[float]
    validation: list[tuple[int, float]]
    weights: dict[str, torch.Tensor]

    def __eq__(self, other: object) -> bool:
        """To the last bit."""
        assert isinstance(other, Outcome)
        same = all(torch.equal(tensor, other.weights[name]) for name, tensor in self.weights.items())
        return same and (self.losses, self.validation) == (other.losses, other.validation)


def conversations(count: int = 400) -> list[tuple[list[int], list[int]]]:
    """Counting by some number from some number, modulo 90; what comes after the first three is supervised."""
    drawn, rows = random.Random(7), []
    for _ in range(count):
        start, stride, length = drawn.randrange(90), drawn.randrange(1, 9), drawn.randrange(6, 40)
        rows.append(([1 + (start + stride * i) % 90 for i in range(length)], [0] * 3 + [1] * (length - 3)))
    return rows


def train_toy(
    folder: Path,
    *,
    steps: int = 20,
    seed: int = 0,
    micro_batch: int = ROWS_A_STEP,
    architecture: str = "current",
    rank: int = 0,
    world_size: int = 1,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    compile: str = "off",
) -> Outcome:
    """Run, or go on with what ``folder`` holds; for several ranks, inside their process group."""
    torch.manual_seed(seed)
    model = GPT(ModelConfig(**SHAPE, **ARCHITECTURES[architecture]), dtype)
    model.init_weights()
    model.to(device)
    rows, seq_len = conversations(), SHAPE["seq_len"]

    def loader(which: slice) -> ConversationLoader:
        return ConversationLoader(rows[which], micro_batch, seq_len, 0, rank, world_size, seed=seed)

    config = TrainConfig(
        steps=steps, batch_tokens=ROWS_A_STEP * seq_len, micro_batch=micro_batch, eval_every=10, seed=seed,
        checkpoint_every=4, log_every=1, compile=compile, optim=OptimConfig(lr_scale=0.1),
    )  # fmt: skip
    held_out = loader(slice(-40, None))
    val_batches = [held_out.next() for _ in range(8 // micro_batch // world_size or 1)]
    ctx = StageContext({}, folder, folder, folder, seed, rank, world_size)
    curve = train_supervised(
        ctx, config, "sft", model, build_optimizer(model, config.optim), loader(slice(0, -40)), seq_len,
        "val_loss", lambda: mean_loss(model, val_batches),
    )  # fmt: skip
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return Outcome([loss for _, loss in curve.train], [(s, v) for s, v in curve.val], weights)
