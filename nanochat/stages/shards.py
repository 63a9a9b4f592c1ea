"""Stage ``shards``: get the text. A source's name in, Parquet shards with a manifest out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from artifacts.errors import DataError
from nanochat.config.base import Config, runtime_field
from nanochat.records import RecordWriter
from nanochat.runtime import StageContext, Summary, stage_main

VERSION = 1


class ShardsConfig(Config):
    """Where the text comes from, and how it is cut."""

    source: Literal["pydocs", "hub", "folder"] = Field(
        "pydocs", description="pydocs: documentation of what is installed; hub: download; folder: your text"
    )
    packages: list[str] | None = Field(
        None, description="pydocs: only these locked packages and standard-library modules (default: all)"
    )
    max_bytes: int | None = Field(None, ge=100_000, description="pydocs: stop after this many bytes of text")
    shard_bytes: int = Field(5_000_000, ge=10_000, description="UTF-8 bytes of text in a shard that we write")
    val_fraction: float = Field(0.02, gt=0, le=0.5, description="share of documents for validation")
    val_documents: int = Field(200, ge=1, description="validation documents to have at least, where possible")
    dataset: Literal["fineweb-edu", "climbmix"] = Field("climbmix", description="hub: which data set")
    num_shards: int | None = Field(
        None, ge=1, description="hub, folder: train shards to take (default: 8 of the hub, all of a folder)"
    )
    path: str = runtime_field("", description="folder: a folder or fsspec URL of Parquet, JSONL or txt files")
    workers: int = runtime_field(2, ge=1, le=64, description="processes that parse, or parallel downloads")


def identity_extra(config: ShardsConfig) -> dict[str, Any]:
    """What besides the config decides the text, without parsing or downloading any of it."""
    if config.source == "pydocs":
        from nanochat.data.lock import select
        from nanochat.data.smalltalk import PACKAGE, smalltalk_version

        return {**select(config.packages).identity(), "chat": {PACKAGE: smalltalk_version()}}
    return {}


def run(ctx: StageContext, config: ShardsConfig) -> Summary:
    """Write the data-mirror layout into ``ctx.output``."""
    records = RecordWriter(ctx.attempt / "records.jsonl", "shards")
    if config.source != "pydocs":
        raise DataError(f"source {config.source}: not available yet")
    metrics = _pydocs(ctx, config)
    for name, value in (("data/rows", metrics["documents"]), ("data/bytes", metrics["text_bytes"])):
        records.write(name, value)
    return Summary(metrics=metrics, key_metric="text_bytes")


def _pydocs(ctx: StageContext, config: ShardsConfig) -> dict[str, int]:
    from nanochat.data.corpus import write_pydocs

    return write_pydocs(
        ctx.output, config.packages, workers=config.workers, shard_bytes=config.shard_bytes,
        max_bytes=config.max_bytes, val_fraction=config.val_fraction, val_documents=config.val_documents,
    )  # fmt: skip


if __name__ == "__main__":
    stage_main("shards", ShardsConfig, run)
