"""Work on single shards: each makes an artifact of its own, so a new shard costs only itself."""

from __future__ import annotations

import json
from typing import Any

from flows.build import Builder, Inputs, Work
from flows.dag import Stage
from flows.identity import stage_recipe
from nanochat.config.base import Config
from nanochat.stages.fetch import FetchConfig
from nanochat.stages.shards import hub_files

FETCH_STAGE = Stage("fetch-shard", "fetch", "shards")
SHARD_STAGE = Stage("tokenize-shard", "tokenize", "tokens")


def fetch_entries(builder: Builder) -> list[dict[str, str]]:
    """The files that the stage ``shards`` takes from the hub, in its order; empty if it takes none."""
    config: Any = builder.configs["shards"]
    return hub_files(config)


def fetch_work(entry: dict[str, str]) -> Work:
    """Fetching one file: its identity is its name and that of its data set, whatever it is fetched for."""
    config = FetchConfig(**entry)
    return Work(FETCH_STAGE, config, {}, None, stage_recipe(FETCH_STAGE, config, {}))


def shard_entries(builder: Builder, inputs: Inputs) -> list[dict[str, Any]]:
    """The shards that the ``shards`` artifact lists, in its order."""
    manifest = builder.checkout(inputs["shards"]) / "manifest.json"
    entries: list[dict[str, Any]] = json.loads(manifest.read_text(encoding="utf-8"))["shards"]
    return entries


def shard_work(builder: Builder, entry: dict[str, Any], inputs: Inputs) -> Work:
    """Tokenising one shard: its identity is that shard and the tokenizer, not the other shards."""
    config: Config = builder.configs["tokenize"].model_copy(update={"shards": [entry["path"]]})
    digests = {"tokenizer": inputs["tokenizer"].digest, "shard": entry["sha256"]}
    recipe = stage_recipe(SHARD_STAGE, config, digests, extra={"shard": entry})
    parents = {"tokenizer": inputs["tokenizer"]}
    return Work(SHARD_STAGE, config, parents, None, recipe, folders=inputs)
