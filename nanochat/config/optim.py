"""Optimizer settings as data, so that the command line can check them without loading torch."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from nanochat.config.base import Config


class Schedule(Config):
    """Linear warm-up, flat, linear warm-down; momentum and decay follow nanochat's rules."""

    warmup_steps: int = Field(40, ge=0, description="steps of linear warm-up")
    warmdown_share: float = Field(0.65, ge=0, le=1, description="last share of the steps, linear decay")
    final_lr_share: float = Field(0.05, ge=0, le=1, description="learning-rate multiplier at the end")

    def lr(self, step: int, total: int) -> float:
        """Multiplier of every learning rate at ``step`` of ``total`` (the first step is 0)."""
        warmup = min(self.warmup_steps, total // 4)
        if step < warmup:
            return (step + 1) / warmup
        left = total - step
        warmdown = max(1, round(self.warmdown_share * total))
        if left > warmdown:
            return 1.0
        return self.final_lr_share + (1 - self.final_lr_share) * left / warmdown

    def momentum(self, step: int, total: int) -> float:
        """Muon momentum: 0.85 to 0.97 over 400 steps, however many there are; to 0.90 in the warm-down."""
        value = 0.85 + 0.12 * min(1.0, step / 400)
        left, warmdown = total - step, max(1, round(self.warmdown_share * total))
        if left < warmdown:
            value = min(value, 0.90 + 0.07 * left / warmdown)
        return value


def cosine_to_zero(step: int, total: int) -> float:
    """1 at the first step, 0 after the last: the course of Muon's weight decay."""
    return 0.5 * (1 + math.cos(math.pi * step / max(1, total)))


class OptimConfig(Config):
    """Learning rates before width scaling, Muon's settings, and the schedule."""

    embedding_lr: float = Field(0.3, gt=0, description="token embeddings (AdamW, x sqrt(768 / width))")
    head_lr: float = Field(0.008, gt=0, description="output head (AdamW, x sqrt(768 / width))")
    matrix_lr: float = Field(0.02, gt=0, description="matrices of the blocks (Muon)")
    scalar_lr: float = Field(0.5, gt=0, description="learned scalars (AdamW)")
    weight_decay: float = Field(0.28, ge=0, description="of Muon, cosine to 0, only where it agrees")
    clip_norm: float = Field(1.0, ge=0, description="scale longer gradients down to this norm; 0: never")
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="fuse Muon's step by torch.compile; auto: on CUDA, as on CPUs it does not pay",
    )
    lr_scale: float = Field(1.0, gt=0, description="factor on every learning rate")
    schedule: Schedule = Schedule()
