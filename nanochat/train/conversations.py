"""Midtraining and SFT: a model continues on conversations; the two differ only in the loss mask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing

from nanochat.config.conversations import ChatTrainConfig
from nanochat.data.loader import ConversationLoader
from nanochat.data.prefetch import Prefetcher
from nanochat.optim.build import build_optimizer
from nanochat.runtime import StageContext, Summary
from nanochat.tasks.mixture import build_mixture
from nanochat.tasks.task import Split
from nanochat.tokenizer.chat import render_conversation
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.train.model_folder import load_model, save_model
from nanochat.train.setup import process_group
from nanochat.train.supervised import train_supervised
from nanochat.train.validate import mean_loss


def train_on_conversations(
    ctx: StageContext, config: ChatTrainConfig, stage: str, *, masked: bool
) -> Summary:
    """Train ``model`` on a mixture drawn from ``shards``; the loss counts all tokens, or ``masked`` ones."""
    model = load_model(ctx.inputs["model"], config.dtype, config.seed)
    tokenizer_file = ctx.inputs["model"] / "tokenizer.json"
    tokenizer = Tokenizer.load(tokenizer_file)
    seq_len = model.config.seq_len

    def loader(mixture: Mapping[str, int], split: Split) -> ConversationLoader:
        drawn = build_mixture(mixture, split, ctx.inputs["shards"], config.seed)
        rows = [render_conversation(tokenizer, conversation, seq_len + 1) for conversation in drawn]
        return ConversationLoader(
            rows, config.micro_batch, seq_len, tokenizer.special("assistant_end"),
            ctx.rank, ctx.world_size, seed=config.seed, masked=masked,
        )  # fmt: skip

    with process_group(ctx, model.device):
        held_out, val_batches = loader(config.val_mixture, "test"), []
        while (batch := held_out.next()).epoch == 0:
            val_batches.append(batch)
        with closing(Prefetcher(loader(config.mixture, "train"), model.device)) as train_loader:
            curve = train_supervised(
                ctx, config, stage, model, build_optimizer(model, config.optim), train_loader,
                seq_len, "val_loss", lambda: mean_loss(model, val_batches or [batch]),
            )  # fmt: skip
            ledger = train_loader.ledger()
    if not ctx.is_main:
        return Summary()
    save_model(
        model, ctx.output, tokenizer_file, curve, {"stage": stage, "steps": config.steps, "ledger": ledger}
    )
    (ctx.output / "mixture.json").write_text(json.dumps(config.mixture, indent=1, sort_keys=True))
    metrics = {"val_loss": curve.val[-1][1], "tokens": curve.tokens, "steps": config.steps}
    return Summary(metrics=metrics, key_metric="val_loss")
