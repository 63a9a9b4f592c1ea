"""Midtraining: the base model meets conversations; every token of them is a target."""

from __future__ import annotations

from nanochat.config.conversations import ChatTrainConfig
from nanochat.runtime import StageContext, Summary, stage_main

VERSION = 1


class MidConfig(ChatTrainConfig):
    """Mixture, length and optimizer of the stage."""


def run(ctx: StageContext, config: MidConfig) -> Summary:
    """Continue training. Inputs: ``model``, ``shards`` (conversations and task data)."""
    from nanochat.train.conversations import train_on_conversations

    return train_on_conversations(ctx, config, "mid", masked=False)


if __name__ == "__main__":
    stage_main("mid", MidConfig, run)
