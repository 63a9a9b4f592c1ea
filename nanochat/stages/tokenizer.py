"""Stage ``tokenizer``: train shards in, a BPE tokenizer and how well it compresses out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import Field

from nanochat.config.base import Config, runtime_field
from nanochat.records import RecordWriter
from nanochat.runtime import StageContext, Summary, stage_main

if TYPE_CHECKING:
    from nanochat.tokenizer.training import Progress

VERSION = 1


class TokenizerConfig(Config):
    """How large the vocabulary is, and on how much text it is trained."""

    vocab_size: int = Field(
        32768, ge=265, le=2**20, description="number of ids, the 9 special tokens included"
    )
    max_chars: int = Field(2_000_000_000, ge=1, description="train on at most this many characters")
    doc_cap: int = Field(10_000, ge=1, description="take at most this many characters of a document")
    threads: int = runtime_field(
        0, ge=0, le=64, description="threads that count words; 0: one for each processor"
    )


def run(ctx: StageContext, config: TokenizerConfig) -> Summary:
    """Write ``tokenizer.json`` and ``compression.json``. Input: ``shards``.

    The comparison with other tokenizers depends on what this machine has, so it goes to the records only.
    """
    from nanochat.tokenizer.inspection import compression_of, compression_of_peers, sample_texts
    from nanochat.tokenizer.training import train_tokenizer

    records = RecordWriter(ctx.attempt / "records.jsonl", "tokenizer")
    tokenizer = train_tokenizer(
        ctx.inputs["shards"], config.vocab_size,
        doc_cap=config.doc_cap, max_chars=config.max_chars, threads=config.threads,
        progress=_progress(records),
    )  # fmt: skip
    tokenizer.save(ctx.output / "tokenizer.json")
    texts = sample_texts(ctx.inputs["shards"])
    rows = compression_of(tokenizer, texts)
    document = {"schema": 1, "rows": [row.as_dict() for row in rows]}
    (ctx.output / "compression.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for row in rows + compression_of_peers(texts):
        records.write("tokenizer/bytes_per_token", row.bytes_per_token, split=row.text, task=row.tokenizer)
    val = next(row.bytes_per_token for row in rows if row.text == "val")
    return Summary(
        metrics={"vocab_size": tokenizer.vocab_size, "bytes_per_token": round(val, 4)},
        key_metric="bytes_per_token",
    )


def _progress(records: RecordWriter) -> Progress:
    """Writes how much is done, twenty times at most: counting is half of it, merging the other half."""
    written = 0

    def progress(phase: str, done: int, total: int | None) -> None:
        nonlocal written
        share = 10 * done // max(1, total or 0) if total is not None else 0
        twentieths = min(10, share) + (10 if phase == "merge" else 0)
        if twentieths > written:
            written = twentieths
            records.write("stage/progress", written / 20, step=written)

    return progress


if __name__ == "__main__":
    stage_main("tokenizer", TokenizerConfig, run)
