"""What every gradient-training stage can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nanochat.config.base import Config, Dtype, runtime_field
from nanochat.config.optim import OptimConfig


class TrainConfig(Config):
    """Length, batch, precision and cadence of a training stage."""

    steps: int = Field(ge=1, description="optimizer steps")
    batch_tokens: int = Field(ge=8, description="tokens of one optimizer step, over all ranks")
    micro_batch: int = Field(ge=1, description="rows of one forward pass on one rank")
    eval_every: int = Field(ge=1, description="steps between validations; the last step always has one")
    optim: OptimConfig = OptimConfig()
    dtype: Dtype = Field("auto", description="compute dtype; auto asks the hardware")
    fp8: bool = Field(
        False, description="multiply large matrices in 8 bits (Hopper and later); slower at small depths"
    )
    seed: int = Field(42, ge=0, description="of weights, data order and sampling")
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="blocks and loss by torch.compile; auto: on CUDA, as on CPUs it does not pay"
    )
    activation_checkpointing: bool = runtime_field(
        False, description="compute each layer again for its gradients: less memory, a third more work"
    )
    probe: bool = runtime_field(
        True, description="on a GPU, try a pass before the first step; fewer rows at once if it does not fit"
    )
    checkpoint_every: int = runtime_field(100, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = runtime_field(2, ge=2, description="newest checkpoints kept, besides the best")
    log_every: int = runtime_field(10, ge=1, description="steps between records and log lines")
