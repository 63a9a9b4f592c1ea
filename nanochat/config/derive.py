"""One dial: ``depth`` (and a few choices beside it) derives every other number, and says by which rule.

The rules are nanochat's of July 2026, measured on miniseries of depth 12 to 26.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, model_validator

from nanochat.config.base import Config, Dtype
from nanochat.config.model import ARCHITECTURES, Architecture, ModelConfig

REFERENCE_BATCH_TOKENS = 2**19
REFERENCE_DEPTH = 12


class Dials(Config):
    """What a person chooses; everything else follows from it unless set by name."""

    depth: int = Field(
        12, ge=1, le=128, description="the one dial: layers, and from them width, tokens, rates"
    )
    arch: Architecture = Field(
        "current", description="current: July 2026; hf: December 2025, as in Hugging Face transformers"
    )
    aspect_ratio: int = Field(64, ge=1, description="width per layer of depth, before rounding up to heads")
    head_dim: int = Field(128, ge=8, multiple_of=2, description="channels of one attention head")
    seq_len: int = Field(2048, ge=16, description="training context in tokens")
    window_pattern: str | None = Field(
        None, pattern="^[SL]+$", description="attention windows, default by architecture"
    )
    vocab_size: int = Field(32768, ge=265, description="token ids, special tokens included")
    tokens_per_parameter: float = Field(12.0, gt=0, description="pretraining tokens per scaling parameter")
    micro_batch: int = Field(32, ge=1, description="rows of one forward pass on one GPU")
    nproc: int = Field(1, ge=1, le=1024, description="torchrun processes on all nodes: GPUs, or 1 on the CPU")
    overlap: bool = Field(
        False,
        description="evaluate a model beside the next stage: quicker if programs start longer than they run",
    )
    seed: int = Field(42, ge=0, description="seed of data order, weights and sampling")
    dtype: Dtype = Field("auto", description="compute dtype")

    @model_validator(mode="after")
    def _hf_sees_everything(self) -> Dials:
        if self.arch == "hf" and "S" in (self.window_pattern or ""):
            raise ValueError(f"arch=hf has no short windows, window_pattern is {self.window_pattern}")
        return self


class Derived:
    """Values by dotted path, each with the rule that set it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.rules: dict[str, str] = {}

    def set(self, path: str, value: Any, rule: str) -> None:
        """Record one derived value."""
        self.values[path], self.rules[path] = value, rule


def model_shape(dials: Dials) -> ModelConfig:
    """The model of ``depth``: width = aspect x depth rounded up to whole heads, heads = width / head_dim."""
    width = math.ceil(dials.depth * dials.aspect_ratio / dials.head_dim) * dials.head_dim
    heads = width // dials.head_dim
    switches = dict(ARCHITECTURES[dials.arch])
    if dials.window_pattern:
        switches["window_pattern"] = dials.window_pattern
    return ModelConfig(
        depth=dials.depth, width=width, num_heads=heads, num_kv_heads=heads,
        vocab_size=dials.vocab_size, seq_len=dials.seq_len, **switches,
    )  # fmt: skip


def scaling_parameters(model: ModelConfig) -> int:
    """Parameters that scaling rules count: block matrices and head, not the embedding tables."""
    per_layer = (
        12 * model.width**2 - 2 * model.width * (model.num_heads - model.num_kv_heads) * model.head_dim
    )
    return model.depth * per_layer + model.padded_vocab_size * model.width


def derive(dials: Dials) -> Derived:
    """Everything that follows from the dials, for the stage ``base`` and those after it."""
    out = Derived()
    model = model_shape(dials)
    out.set("base.model", model.model_dump(), "width = aspect_ratio x depth, rounded up to heads of head_dim")
    scaling = scaling_parameters(model)
    tokens = dials.tokens_per_parameter * scaling
    reference = dials.tokens_per_parameter * scaling_parameters(
        model_shape(dials.model_copy(update={"depth": REFERENCE_DEPTH}))
    )
    exponent = math.log2(REFERENCE_BATCH_TOKENS * (tokens / reference) ** 0.383)
    per_pass = dials.micro_batch * dials.seq_len * dials.nproc
    batch = max(1, round(2 ** round(exponent) / per_pass)) * per_pass
    out.set("base.batch_tokens", batch, "2^19 x (tokens / tokens at depth 12)^0.383, nearest power of 2")
    steps = max(1, round(tokens / batch))
    out.set(
        "base.steps", steps, f"{dials.tokens_per_parameter:g} tokens x {scaling:,} scaling parameters / batch"
    )
    rate = (batch / REFERENCE_BATCH_TOKENS) ** 0.5
    out.set("base.optim.lr_scale", rate, "sqrt(batch / 2^19) on every learning rate")
    decay = 0.28 * rate * reference / tokens
    out.set("base.optim.weight_decay", decay, "0.28 x sqrt(batch / 2^19) x tokens at depth 12 / tokens")
    out.set(
        "base.val_tokens", min(80 * REFERENCE_BATCH_TOKENS, 4 * batch), "4 batches, at most 80 x 2^19 tokens"
    )
    out.set("base.eval_every", max(1, steps // 10), "ten validations a run")
    for stage in ("mid", "sft", "rl"):
        out.set(f"{stage}.optim.lr_scale", rate, "as base")
        out.set(f"{stage}.optim.weight_decay", 0.0, "none after pretraining")
    for stage in ("mid", "sft"):
        out.set(f"{stage}.batch_tokens", batch, "as base")
        out.set(f"{stage}.eval_every", 50, "every 50 steps")
    for stage in ("base", "mid", "sft"):
        out.set(f"{stage}.micro_batch", dials.micro_batch, "micro_batch")
    for stage in ("base", "mid", "sft", "rl"):
        out.set(f"{stage}.dtype", dials.dtype, "dtype")
    for stage in ("base", "mid", "sft", "rl", "evaluate"):
        out.set(f"{stage}.seed", dials.seed, "seed")
    out.set("tokenizer.vocab_size", dials.vocab_size, "vocab_size")
    return out
