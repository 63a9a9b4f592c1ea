"""Stage ``tokenize``: text shards and a tokenizer in, memory-mapped token arrays out, shard by shard."""

from __future__ import annotations

from pydantic import Field

from nanochat.config.base import Config, runtime_field
from nanochat.records import RecordWriter
from nanochat.runtime import StageContext, Summary, stage_main

VERSION = 1


class TokenizeConfig(Config):
    """Which shards; the union of runs over single shards equals one run over all."""

    shards: list[str] | None = Field(None, description="only the shards with these paths (default: all)")
    threads: int = runtime_field(0, ge=0, le=64, description="encoding threads; 0: one for each processor")


def run(ctx: StageContext, config: TokenizeConfig) -> Summary:
    """Write tokens, offsets and a description of each shard. Inputs: ``shards``, ``tokenizer``."""
    import hashlib

    from artifacts.errors import UsageError
    from nanochat.data.shards import read_manifest
    from nanochat.data.token_writer import tokenize_shard
    from nanochat.tokenizer.tokenizer import FILE_NAME, Tokenizer

    folder = ctx.inputs["shards"]
    manifest = read_manifest(folder)
    wanted = [shard for shard in manifest.shards if config.shards is None or shard.path in config.shards]
    unknown = set(config.shards or ()) - {shard.path for shard in wanted}
    if unknown:
        raise UsageError(f"shard {min(unknown)!r} is not in the manifest of the shards")
    tokenizer = Tokenizer.load(ctx.inputs["tokenizer"])
    digest = hashlib.sha256((ctx.inputs["tokenizer"] / FILE_NAME).read_bytes()).hexdigest()
    records = RecordWriter(ctx.attempt / "records.jsonl", "tokenize")
    totals = {"rows": 0, "tokens": 0, "text_bytes": 0}
    for number, shard in enumerate(wanted, 1):
        about = tokenize_shard(folder, shard, ctx.output, tokenizer, digest, config.threads)
        totals = {key: total + int(about[key]) for key, total in totals.items()}
        records.write("data/tokens", totals["tokens"], step=number)
        records.write("stage/progress", number / len(wanted), step=number)
    metrics = {**totals, "bytes_per_token": round(totals["text_bytes"] / max(1, totals["tokens"]), 4)}
    return Summary(metrics=metrics, key_metric="tokens")


if __name__ == "__main__":
    stage_main("tokenize", TokenizeConfig, run)
