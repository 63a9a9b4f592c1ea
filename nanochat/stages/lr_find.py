"""Stage ``lr_find``: token shards and a tokenizer in, the loss over the learning rate out (lr_find.json)."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field, model_validator

from nanochat.config.base import Config, Dtype, runtime_field
from nanochat.config.model import ModelConfig
from nanochat.config.optim import OptimConfig
from nanochat.runtime import StageContext, Summary, stage_main

VERSION = 1
MIN_POINTS = 5


class LRFindConfig(Config):
    """A fresh model and the ramp of its learning rates; all else as in pretraining."""

    model: ModelConfig
    steps: int = Field(100, ge=20, le=10_000, description="steps of the ramp")
    low: float = Field(0.01, gt=0, description="lr_scale of the first step")
    high: float = Field(100.0, gt=0, description="lr_scale of the last step")
    batch_tokens: int = Field(ge=8, description="tokens of one optimizer step, over all ranks")
    micro_batch: int = Field(ge=1, description="rows of one forward pass on one rank")
    optim: OptimConfig = OptimConfig()
    dtype: Dtype = Field("auto", description="compute dtype")
    seed: int = Field(42, ge=0, description="of weights and data order")
    shuffle_buffer: int = Field(1000, ge=1, le=3000, description="documents the packer chooses from")
    crop: Literal["carry", "drop"] = Field("carry", description="as in pretraining")
    activation_checkpointing: bool = runtime_field(False, description="as in pretraining")

    @model_validator(mode="after")
    def _upwards(self) -> LRFindConfig:
        if self.high < 10 * self.low:
            raise ValueError(f"from {self.low:g} to {self.high:g} is less than a factor of 10")
        return self


def run(ctx: StageContext, config: LRFindConfig) -> Summary:
    """Train through the ramp and write what was seen. Inputs: ``tokens``, ``tokenizer``."""
    from artifacts.errors import NanochatError
    from nanochat.data.loader import PretrainLoader
    from nanochat.model.gpt import GPT
    from nanochat.optim.build import build_optimizer
    from nanochat.records import RecordWriter
    from nanochat.tokenizer.tokenizer import Tokenizer
    from nanochat.train.lr_range import Ramp, range_test
    from nanochat.train.setup import process_group, resolve_device, resolve_dtype, seed_everything

    device = resolve_device()
    seed_everything(config.seed, device)
    model = GPT(config.model, resolve_dtype(config.dtype, device))
    model.checkpointing = config.activation_checkpointing
    model.init_weights()
    model.to(device)
    bos = Tokenizer.load(ctx.inputs["tokenizer"] / "tokenizer.json").special("bos")
    ramp = Ramp(low=config.low, high=config.high)
    records = RecordWriter(ctx.attempt / "records.jsonl", "lr-find") if ctx.is_main else None
    if records:
        records.rewind(-1)  # a second attempt begins anew

    def noted(step: int, scale: float, loss: float) -> None:
        ctx.beat(step)
        if records:
            records.write("train/loss", loss, step=step)
            records.write("train/lr", scale, step=step)
            records.write("stage/progress", (step + 1) / config.steps, step=step)

    with process_group(ctx, device):
        loader = PretrainLoader(
            ctx.inputs["tokens"], "train", config.micro_batch, config.model.seq_len, bos,
            ctx.rank, ctx.world_size, seed=config.seed, buffer=config.shuffle_buffer, crop=config.crop,
        )  # fmt: skip
        optimizer = build_optimizer(
            model, config.optim.model_copy(update={"lr_scale": 1.0, "schedule": ramp})
        )
        passes = config.batch_tokens // (config.micro_batch * config.model.seq_len * ctx.world_size)
        curve = range_test(
            model, optimizer, loader, steps=config.steps, passes=passes, world_size=ctx.world_size,
            noted=noted,
        )  # fmt: skip
    if not ctx.is_main:
        return Summary()
    if len(curve.losses) < MIN_POINTS:
        raise NanochatError(
            f"lr-find: the loss is not finite after {len(curve.losses)} steps, at {config.low:g} already",
            "begin lower: --low 0.0001",
        )
    found = curve.as_json()
    (ctx.output / "lr_find.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    metrics = {name: found[name] for name in ("suggestion", "steepest", "lowest", "diverged")}
    return Summary(
        metrics={name: value for name, value in metrics.items() if value is not None},
        key_metric="suggestion",
    )


if __name__ == "__main__":
    stage_main("lr-find", LRFindConfig, run)
