"""Supervised fine-tuning: only what the assistant says is a target."""

from __future__ import annotations

from nanochat.config.conversations import ChatTrainConfig
from nanochat.runtime import StageContext, Summary, stage_main

VERSION = 1


class SftConfig(ChatTrainConfig):
    """Mixture, length and optimizer of the stage."""


def run(ctx: StageContext, config: SftConfig) -> Summary:
    """Continue training. Inputs: ``model``, ``shards`` (conversations and task data)."""
    from nanochat.train.conversations import train_on_conversations

    return train_on_conversations(ctx, config, "sft", masked=True)


if __name__ == "__main__":
    stage_main("sft", SftConfig, run)
