"""Token files: what the reader of tokens artifacts expects, exact to the document."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import DataError
from nanochat.data.shards import describe_shard, write_shard
from nanochat.data.token_shards import TokenShards
from nanochat.data.token_writer import ArrayFile, tokenize_shard

TEXTS = [f"Document {number}, ü" for number in range(1500)]


class Bytes:
    """A tokenizer whose ids are the bytes, plus an offset to need more than 8 bits."""

    id_dtype = np.dtype(np.uint16)

    def encode_to_numpy(self, texts: pa.ChunkedArray, num_threads: int = 0) -> tuple[np.ndarray, np.ndarray]:
        ids = [np.frombuffer(text.encode(), np.uint8).astype(np.uint16) + 700 for text in texts.to_pylist()]
        return np.concatenate([np.zeros(0, np.uint16), *ids]), np.cumsum([0, *map(len, ids)], dtype=np.int64)


def test_documents_come_back(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "pretrain/shard_00003.parquet", "val", TEXTS)
    about = tokenize_shard(tmp_path, shard, tmp_path, Bytes(), "f" * 64, 1)
    assert json.loads((tmp_path / "shard_00003.json").read_text()) == about
    assert about["rows"] == 1500
    assert about["tokens"] == about["text_bytes"] == shard.text_bytes
    tokens = TokenShards(tmp_path, "val")
    assert [bytes((tokens.read(n) - 700).tolist()).decode() for n in range(1500)] == TEXTS
    assert tokens.read(0).dtype == np.uint16


def test_a_row_group_without_rows_is_nothing(tmp_path: Path) -> None:
    file = tmp_path / "pretrain" / "shard_00000.parquet"
    file.parent.mkdir()
    table = pa.table({"text": pa.array(["one", "two"], pa.string())})
    with pq.ParquetWriter(file, table.schema) as writer:
        for part in (table[:1], table[:0], table[1:]):
            writer.write_table(part)
    shard = describe_shard(file, "pretrain/shard_00000.parquet", "train", 2, 6)
    about = tokenize_shard(tmp_path, shard, tmp_path, Bytes(), "f" * 64, 1)
    assert (about["rows"], about["tokens"], about["text_bytes"]) == (2, 6, 6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=20), max_size=20))
def test_a_growing_array_is_plain_numpy(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]]
) -> None:
    path = tmp_path_factory.mktemp("array") / "x.npy"
    with path.open("wb") as file:
        array = ArrayFile(file, np.dtype(np.uint32))
        for part in parts:
            array.append(part)
        array.finish()
    whole = np.array([value for part in parts for value in part], np.uint32)
    assert np.array_equal(np.load(path, allow_pickle=False), whole)
    if len(whole):
        assert np.array_equal(np.load(path, mmap_mode="r", allow_pickle=False), whole)


@pytest.mark.criterion("T22")
def test_damage_names_the_row_group(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "shard_00003.parquet", "train", TEXTS)
    file = tmp_path / shard.path
    data = bytearray(file.read_bytes())
    data[50] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"shard_00003.parquet, row group 0"):
        tokenize_shard(tmp_path, shard, tmp_path, Bytes(), "f" * 64, 1)


def test_another_shard_under_the_same_name_is_refused(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, "shard_00003.parquet", "train", TEXTS)
    write_shard(tmp_path, "shard_00003.parquet", "train", TEXTS[1:])
    with pytest.raises(DataError, match="is not the file that its manifest"):
        tokenize_shard(tmp_path, shard, tmp_path, Bytes(), "f" * 64, 1)
    (tmp_path / shard.path).unlink()
    with pytest.raises(DataError, match="is missing"):
        tokenize_shard(tmp_path, shard, tmp_path, Bytes(), "f" * 64, 1)
