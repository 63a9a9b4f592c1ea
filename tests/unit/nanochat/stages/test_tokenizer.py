"""The stage: a folder of shards in, a tokenizer with its table out; the same input, the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from artifacts.errors import UsageError
from nanochat.data.shards import write_manifest, write_shards
from nanochat.records import read_records
from nanochat.runtime import StageContext
from nanochat.stages.tokenizer import TokenizerConfig, run
from nanochat.tokenizer.tokenizer import Tokenizer

VAL_TEXT = "Some held-out words, which are not many. "


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    train = write_shards(
        folder, [f"Words and {n * n} numbers to train on. " * 9 for n in range(50)], "train", 0, 9000
    )
    val = write_shards(folder, [VAL_TEXT], "val", len(train), 9000)
    write_manifest(folder, "test", train + val, {})
    return folder


def context(shards: Path, folder: Path) -> StageContext:
    output, attempt = folder / "output", folder / "attempt"
    output.mkdir(parents=True)
    attempt.mkdir()
    return StageContext({"shards": shards}, output, attempt, attempt)


def test_payload_and_records(shards: Path, tmp_path: Path) -> None:
    ctx = context(shards, tmp_path)
    summary = run(ctx, TokenizerConfig(vocab_size=300))
    tokenizer = Tokenizer.load(ctx.output)
    assert tokenizer.vocab_size == summary.metrics["vocab_size"] == 300
    expected = len(VAL_TEXT) / len(tokenizer.encode(VAL_TEXT))
    assert summary.metrics[summary.key_metric] == round(expected, 4)
    rows = json.loads((ctx.output / "compression.json").read_text())["rows"]
    assert [row["text"] for row in rows] == ["news", "code", "maths", "korean", "train", "val"]
    assert rows[-1]["bytes"] == len(VAL_TEXT)
    records = list(read_records(ctx.attempt / "records.jsonl"))
    progress = [record["value"] for record in records if record["name"] == "stage/progress"]
    assert progress == sorted(set(progress))
    assert progress[-1] == 1
    recorded = {
        record["split"]: record["value"]
        for record in records
        if record["name"] == "tokenizer/bytes_per_token" and record["task"] == "nanochat"
    }
    assert recorded["val"] == expected
    assert set(recorded) == {row["text"] for row in rows}


def test_the_same_shards_give_the_same_bytes(shards: Path, tmp_path: Path) -> None:
    payloads = []
    for threads in (1, 3):
        ctx = context(shards, tmp_path / str(threads))
        run(ctx, TokenizerConfig(vocab_size=300, threads=threads))
        payloads.append({path.name: path.read_bytes() for path in ctx.output.iterdir()})
    assert payloads[0] == payloads[1]
    assert set(payloads[0]) == {"tokenizer.json", "compression.json"}


def test_a_vocabulary_that_is_too_large_leaves_nothing_behind(shards: Path, tmp_path: Path) -> None:
    ctx = context(shards, tmp_path)
    with pytest.raises(UsageError, match="the largest possible is"):
        run(ctx, TokenizerConfig(vocab_size=30_000))
    assert not any(ctx.output.iterdir())


def test_threads_are_not_identity() -> None:
    assert TokenizerConfig(threads=3).identity() == TokenizerConfig().identity()
    with pytest.raises(ValidationError):
        TokenizerConfig(vocab_size=264)
