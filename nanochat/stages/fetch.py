"""Stage ``fetch-shard``: one shard of a data set of the hub, as it is there."""

from __future__ import annotations

from pydantic import Field

from nanochat.config.base import Config
from nanochat.runtime import StageContext, Summary, stage_main

VERSION = 1


class FetchConfig(Config):
    """Which file."""

    dataset: str = Field(description="name of the data set on the hub")
    path: str = Field(description="name of the file in it")


def run(ctx: StageContext, config: FetchConfig) -> Summary:
    """Put the file into ``ctx.output``. What it holds is checked by the stage ``shards``, which reads it."""
    from nanochat.data.hub import fetch_shard, place

    target = ctx.output / config.path
    place(fetch_shard(config.dataset, config.path), target)
    return Summary(metrics={"bytes": target.stat().st_size}, key_metric="bytes")


if __name__ == "__main__":
    stage_main("fetch-shard", FetchConfig, run)
