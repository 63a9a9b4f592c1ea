"""Stage ``shards``: get the text. A source's name in, Parquet shards with a manifest out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from nanochat.config.base import Config, runtime_field
from nanochat.records import RecordWriter
from nanochat.runtime import StageContext, Summary, stage_main

if TYPE_CHECKING:
    from nanochat.data.folder import Folder
    from nanochat.data.shards import Shard

VERSION = 1
HUB_SHARDS = 8


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

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return path if not path or "://" in path else os.path.abspath(path)


def identity_extra(config: ShardsConfig) -> dict[str, Any]:
    """What besides the config decides the text, without parsing or downloading any of it."""
    if config.source == "pydocs":
        from nanochat.data.lock import select
        from nanochat.data.smalltalk import PACKAGE, smalltalk_version

        return {**select(config.packages).identity(), "chat": {PACKAGE: smalltalk_version()}}
    if folder := _folder_of(config):
        return {"folder": folder.identity()}
    return {}


def hub_files(config: ShardsConfig) -> list[dict[str, str]]:
    """The files of the hub that the text is made from, each as a FetchConfig; empty for other sources."""
    if config.source != "hub" or os.environ.get("NANOCHAT_DATA_MIRROR"):
        return []
    from nanochat.data.hub import DATASETS, shard_files

    dataset = DATASETS[config.dataset]
    files = shard_files(dataset, config.num_shards or HUB_SHARDS)
    return [{"dataset": dataset.name, "path": file} for file in files]


def run(ctx: StageContext, config: ShardsConfig) -> Summary:
    """Write the data-mirror layout into ``ctx.output``; every shard has been read once when it returns.

    Inputs: none, or file -> folder of every file of the hub, fetched before.
    """
    records = RecordWriter(ctx.attempt / "records.jsonl", "shards")
    if config.source == "pydocs":
        metrics = _from_pydocs(ctx, config)
    elif folder := _folder_of(config):
        metrics = _from_folder(ctx, config, folder)
    else:
        metrics = _from_hub(ctx, config)
    records.write("data/rows", metrics["documents"])
    records.write("data/bytes", metrics["text_bytes"])
    return Summary(metrics=metrics, key_metric="text_bytes")


def _folder_of(config: ShardsConfig) -> Folder | None:
    """The folder to read: ``path``, or the mirror that replaces the hub; None for the hub itself."""
    from nanochat.data.folder import Folder

    url = config.path if config.source == "folder" else os.environ.get("NANOCHAT_DATA_MIRROR", "")
    return Folder(url) if url or config.source == "folder" else None


def _from_pydocs(ctx: StageContext, config: ShardsConfig) -> dict[str, int]:
    from nanochat.data.corpus import write_pydocs

    return write_pydocs(
        ctx.output, config.packages, workers=config.workers, shard_bytes=config.shard_bytes,
        max_bytes=config.max_bytes, val_fraction=config.val_fraction, val_documents=config.val_documents,
    )  # fmt: skip


def _from_folder(ctx: StageContext, config: ShardsConfig, folder: Folder) -> dict[str, int]:
    from nanochat.data.adopt import adopt_folder, write_texts

    shards = adopt_folder(folder, ctx.output, config.num_shards) or write_texts(
        folder, ctx.output, ctx.scratch, shard_bytes=config.shard_bytes,
        val_fraction=config.val_fraction, val_documents=config.val_documents,
    )  # fmt: skip
    return _described(ctx, "folder" if config.source == "folder" else "mirror", shards, {})


def _from_hub(ctx: StageContext, config: ShardsConfig) -> dict[str, int]:
    from nanochat.data.adopt import link_shards
    from nanochat.data.hub import DATASETS, fetch_shards

    dataset = DATASETS[config.dataset]
    if ctx.inputs:
        files = [ctx.inputs[file["path"]] / file["path"] for file in hub_files(config)]
    else:
        files = fetch_shards(dataset, config.num_shards or HUB_SHARDS, config.workers)
    return _described(ctx, "hub", link_shards(files, ctx.output), {"dataset": dataset.name})


def _described(
    ctx: StageContext, source: str, shards: list[Shard], details: dict[str, str]
) -> dict[str, int]:
    from nanochat.data.shards import write_manifest

    write_manifest(ctx.output, source, shards, details)
    return {
        "documents": sum(shard.rows for shard in shards),
        "val_documents": sum(shard.rows for shard in shards if shard.split == "val"),
        "text_bytes": sum(shard.text_bytes for shard in shards),
        "shards": len(shards),
    }


if __name__ == "__main__":
    stage_main("shards", ShardsConfig, run)
