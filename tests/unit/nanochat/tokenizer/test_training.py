"""The vocabulary is exactly as large as asked for, from the train split, or the largest is named."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from artifacts.errors import DataError, UsageError
from nanochat.data.shards import write_manifest, write_shards
from nanochat.tokenizer.training import capped, train_on_texts, train_tokenizer


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    train = write_shards(tmp_path, ["training words " * 20, "more of them " * 5], "train", 0, 100)
    val = write_shards(tmp_path, ["qqqq zzzz " * 500], "val", len(train), 10**6)
    write_manifest(tmp_path, "test", train + val, {})
    return tmp_path


def test_the_vocabulary_counts_the_special_tokens(shards: Path) -> None:
    tokenizer = train_tokenizer(shards, 280, doc_cap=1000, max_chars=1000)
    assert tokenizer.vocab_size == 280
    assert len(tokenizer.tokens) == 271
    assert tokenizer.special("output_end") == 279


def test_validation_text_is_not_used(shards: Path) -> None:
    tokenizer = train_tokenizer(shards, 280, doc_cap=1000, max_chars=1000)
    assert not any(b"q" in token or b"z" in token for token in tokenizer.tokens[256:])


def test_only_the_beginnings_count(shards: Path) -> None:
    tokenizer = train_tokenizer(shards, 267, doc_cap=4, max_chars=1000)
    assert train_on_texts(["trai", "more"], 267) == tokenizer
    tokenizer = train_tokenizer(shards, 267, doc_cap=1000, max_chars=12)
    assert train_on_texts(["training wor"], 267) == tokenizer


def test_capped() -> None:
    assert list(capped(["abcdef", "gh", "ijkl", "never"], 3, 7)) == ["abc", "gh", "ij"]
    assert list(capped(["abcdef"], 10, 3)) == ["abc"]


def test_a_vocabulary_that_the_text_does_not_support_names_the_largest() -> None:
    with pytest.raises(UsageError, match="vocab_size 5000 is more than the text supports") as caught:
        train_on_texts(["a few words only, a few"], 5000)
    largest = int(re.findall(r"largest possible is (\d+)", caught.value.message)[0])
    assert train_on_texts(["a few words only, a few"], largest).vocab_size == largest
    with pytest.raises(UsageError):
        train_on_texts(["a few words only, a few"], largest + 1)


def test_a_vocabulary_below_bytes_and_specials_is_refused() -> None:
    assert train_on_texts(["a"], 265).vocab_size == 265
    with pytest.raises(UsageError, match="vocab_size 264 is under 265"):
        train_on_texts(["a"], 264)


@pytest.mark.parametrize("codec", ["gzip", "lz4", "brotli"])
def test_adopted_shards_may_be_compressed_in_any_way(shards: Path, codec: str) -> None:
    expected = train_tokenizer(shards, 280, doc_cap=30, max_chars=200)
    for file in (shards / "pretrain").glob("*.parquet"):
        pq.write_table(pq.read_table(file), file, compression=codec)
    assert train_tokenizer(shards, 280, doc_cap=30, max_chars=200) == expected


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(DataError, match="no text to train on"):
        train_on_texts(["", ""], 265)


def test_a_damaged_shard_is_named(shards: Path) -> None:
    file = shards / "pretrain" / "shard_00000.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"shard_00000\.parquet"):
        train_tokenizer(shards, 280, doc_cap=1000, max_chars=1000)
