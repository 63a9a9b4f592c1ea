"""The stage: shard by shard gives the same files as all at once, and documents come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import UsageError
from nanochat.data.shards import write_manifest, write_shards
from nanochat.data.token_shards import TokenShards
from nanochat.runtime import StageContext
from nanochat.stages.tokenize import TokenizeConfig, run
from nanochat.tokenizer.tokenizer import Tokenizer

TEXTS = [f"Number {number} of them says naïve things. <|bos|>" for number in range(300)]
BYTES = tuple(bytes([byte]) for byte in range(256))


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    shards, tokenizer = tmp_path / "shards", tmp_path / "tokenizer"
    train = write_shards(shards, TEXTS[:250], "train", 0, 5000)
    val = write_shards(shards, TEXTS[250:], "val", len(train), 1 << 30)
    write_manifest(shards, "test", train + val, {})
    tokenizer.mkdir()
    Tokenizer((*BYTES, b"th", b"in")).save(tokenizer)
    return {"shards": shards, "tokenizer": tokenizer}


def tokenized(inputs: dict[str, Path], folder: Path, shards: list[str] | None = None) -> dict[str, bytes]:
    output, attempt = folder / "output", folder / "attempt"
    output.mkdir(parents=True)
    attempt.mkdir()
    run(StageContext(inputs, output, attempt, attempt), TokenizeConfig(shards=shards))
    return {path.name: path.read_bytes() for path in sorted(output.iterdir())}


def test_documents_come_back(inputs: dict[str, Path], tmp_path: Path) -> None:
    files = tokenized(inputs, tmp_path / "all")
    assert len(files) % 3 == 0
    tokenizer = Tokenizer.load(inputs["tokenizer"])
    tokens = TokenShards(tmp_path / "all" / "output", "train")
    texts = [tokenizer.decode(tokens.read(n).tolist()) for n in range(sum(tokens.rows))]
    assert texts == TEXTS[:250]
    assert sum(TokenShards(tmp_path / "all" / "output", "val").rows) == 50


@pytest.mark.criterion("T27")
def test_typed_specials_stay_text(inputs: dict[str, Path], tmp_path: Path) -> None:
    tokenized(inputs, tmp_path / "all")
    bos = Tokenizer.load(inputs["tokenizer"]).special("bos")
    tokens = TokenShards(tmp_path / "all" / "output", "val")
    assert max(int(tokens.read(n).max()) for n in range(50)) < bos


def test_single_shards_add_up_to_all(inputs: dict[str, Path], tmp_path: Path) -> None:
    whole = tokenized(inputs, tmp_path / "all")
    names = sorted({name.split(".")[0] for name in whole})
    assert len(names) > 2
    parts: dict[str, bytes] = {}
    for name in names:
        parts |= tokenized(inputs, tmp_path / name, [f"pretrain/{name}.parquet"])
    assert parts == whole


def test_a_shard_that_is_not_there_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shard_99999"):
        tokenized(inputs, tmp_path / "x", ["pretrain/shard_99999.parquet"])
