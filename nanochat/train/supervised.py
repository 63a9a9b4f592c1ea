"""Training on next-token targets: what pretraining, midtraining and SFT share."""

from __future__ import annotations

import logging
from collections.abc import Callable

from artifacts.errors import UsageError
from nanochat.config.training import TrainConfig
from nanochat.model.fp8 import multiply_in_fp8
from nanochat.model.gpt import GPT
from nanochat.optim.build import MuonAdamW
from nanochat.runtime import StageContext
from nanochat.train.gradients import accumulate
from nanochat.train.loop import Curve, Pace, Trainer
from nanochat.train.probe import FittingLoader, Loader, needs_probe, probe
from nanochat.train.setup import summed
from nanochat.train.step_log import StepResult

logger = logging.getLogger(__name__)


def train_supervised(
    ctx: StageContext,
    config: TrainConfig,
    stage: str,
    model: GPT,
    optimizer: MuonAdamW,
    loader: Loader,
    seq_len: int,
    val_metric: str,
    measure: Callable[[], float],
) -> Curve:
    """Train ``model`` in place for ``config.steps`` steps of ``config.batch_tokens`` tokens."""
    per_pass = config.micro_batch * seq_len * ctx.world_size
    if config.batch_tokens % per_pass:
        raise UsageError(
            f"{stage}.batch_tokens = {config.batch_tokens} is not a multiple of {per_pass}",
            f"micro_batch {config.micro_batch} x seq_len {seq_len} x {ctx.world_size} ranks",
        )
    passes = config.batch_tokens // per_pass

    def rows_that_fit(most: int) -> int:
        ctx.beat(0, slow=True)
        rows = probe(stage, model, most, passes * config.micro_batch // most, ctx.world_size)
        if ctx.is_main:
            logger.info("%d of micro_batch = %d rows fit into a pass", rows, config.micro_batch)
        return rows

    find = rows_that_fit if config.probe and needs_probe(model.device) else None
    fitting = FittingLoader(loader, config.micro_batch, find, ctx.world_size)

    def gradients(step: int) -> StepResult:
        batches = fitting.next(passes)
        supervised = sum(batch.supervised for batch in batches)
        total = summed(supervised, model.device)
        share = accumulate(model, fitting.cut(batches), total, ctx.world_size, optimizer.loss_scale)
        loss = summed(share, model.device)
        return StepResult(loss, config.batch_tokens)

    if config.fp8:
        multiply_in_fp8(model.blocks, seq_len)
    model.checkpointing = config.activation_checkpointing
    if config.compile == "on" or (config.compile == "auto" and model.device.type == "cuda"):
        model.compile_parts()
    pace = Pace(
        config.steps, config.eval_every, config.checkpoint_every, config.log_every, config.keep_checkpoints
    )
    return Trainer(ctx, stage, model, optimizer, fitting, pace, val_metric, gradients, measure).run()
