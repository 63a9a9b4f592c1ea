"""A learning-rate range test: train a fresh model while every rate grows, and note the loss of each step."""

from __future__ import annotations

import math
from collections.abc import Callable

from nanochat.config.optim import Schedule
from nanochat.data.loader import PackedLoader
from nanochat.model.gpt import GPT
from nanochat.optim.build import MuonAdamW
from nanochat.report.lr_curve import LRCurve
from nanochat.train.gradients import accumulate
from nanochat.train.setup import all_sum


class Ramp(Schedule):
    """Rates multiplied by ``low`` at the first step and by ``high`` at the last, by equal factors between.

    Momentum stays where a run has it most of the time.
    """

    low: float
    high: float

    def lr(self, step: int, total: int) -> float:
        """The multiplier at ``step`` of ``total``."""
        return self.low * (self.high / self.low) ** (step / max(1, total - 1))

    def momentum(self, step: int, total: int) -> float:
        """Muon's, after its warm-up."""
        return 0.95


def range_test(
    model: GPT,
    optimizer: MuonAdamW,
    loader: PackedLoader,
    *,
    steps: int,
    passes: int,
    world_size: int,
    noted: Callable[[int, float, float], None],
) -> LRCurve:
    """Train ``model`` in place for up to ``steps`` steps of ``passes`` batches, by the optimizer's ramp.

    It ends at a loss that is not finite, or once all that was gained is lost again. ``noted`` is told of
    every step: step, multiplier, loss. Collective over ranks.
    """
    scales: list[float] = []
    losses: list[float] = []
    for step in range(steps):
        scale = optimizer.set_progress(step, steps)
        optimizer.zero_grad()
        batches = [loader.next() for _ in range(passes)]
        supervised = all_sum(sum(batch.supervised for batch in batches), model.device)
        share = accumulate(model, batches, supervised, world_size, optimizer.loss_scale)
        loss = all_sum(float(share), model.device)
        if not math.isfinite(loss):
            break
        scales.append(scale)
        losses.append(loss)
        noted(step, scale, loss)
        if min(losses[-3:]) > losses[0] and min(losses) < losses[0] - 0.05:
            break
        optimizer.step()
    return LRCurve(tuple(scales), tuple(losses))
