"""Pretraining: token shards and a tokenizer in, a base model out."""

from __future__ import annotations

from contextlib import closing
from typing import Literal

from pydantic import Field

from nanochat.config.model import ModelConfig
from nanochat.config.training import TrainConfig
from nanochat.runtime import StageContext, Summary, stage_main

VERSION = 1


class BaseConfig(TrainConfig):
    """Pretraining of one model shape for a number of steps."""

    model: ModelConfig
    val_tokens: int = Field(ge=1, description="validation tokens measured at each evaluation")
    shuffle_buffer: int = Field(1000, ge=1, le=3000, description="documents the packer chooses from")
    crop: Literal["carry", "drop"] = Field(
        "carry", description="the rest of a document cut at a row's end: carried to a later row, or dropped"
    )


def run(ctx: StageContext, config: BaseConfig) -> Summary:
    """Pretrain, then write the model. Inputs: ``tokens``, ``tokenizer``."""
    import torch

    from nanochat.data.loader import PretrainLoader
    from nanochat.data.prefetch import Prefetcher
    from nanochat.model.gpt import GPT
    from nanochat.optim.build import build_optimizer
    from nanochat.tokenizer.tokenizer import Tokenizer
    from nanochat.train.model_folder import save_model
    from nanochat.train.setup import process_group, resolve_device, resolve_dtype, seed_everything
    from nanochat.train.supervised import train_supervised
    from nanochat.train.validate import bits_per_byte

    device = resolve_device()
    seed_everything(config.seed, device)
    tokenizer_file = ctx.inputs["tokenizer"] / "tokenizer.json"
    tokenizer = Tokenizer.load(tokenizer_file)
    model = GPT(config.model, resolve_dtype(config.dtype, device))
    model.init_weights()
    model.to(device)

    def loader(split: str, rows: int, crop: Literal["carry", "drop"]) -> PretrainLoader:
        return PretrainLoader(
            ctx.inputs["tokens"], split, rows, config.model.seq_len, tokenizer.special("bos"),
            ctx.rank, ctx.world_size, seed=config.seed, buffer=config.shuffle_buffer, crop=crop,
        )  # fmt: skip

    with process_group(ctx, device):
        rows = config.micro_batch
        held_out = loader("val", rows, "drop")  # always: val_bpb then compares whatever crop is
        per_batch = rows * config.model.seq_len * ctx.world_size
        val_batches = [held_out.next() for _ in range(max(1, config.val_tokens // per_batch))]
        token_bytes_V = torch.as_tensor(tokenizer.token_bytes, device=device)
        with closing(Prefetcher(loader("train", rows, config.crop), device)) as train_loader:
            curve = train_supervised(
                ctx, config, "base", model, build_optimizer(model, config.optim), train_loader,
                config.model.seq_len, "val_bpb", lambda: bits_per_byte(model, val_batches, token_bytes_V),
            )  # fmt: skip
            ledger = train_loader.ledger()
    if not ctx.is_main:
        return Summary()
    save_model(
        model, ctx.output, tokenizer_file, curve, {"stage": "base", "steps": config.steps, "ledger": ledger}
    )
    return Summary(
        metrics={"val_bpb": curve.val[-1][1], "tokens": curve.tokens, "steps": config.steps},
        key_metric="val_bpb",
    )


if __name__ == "__main__":
    stage_main("base", BaseConfig, run)
