"""Shards: deterministic bytes, exact texts back, and T22: damage is named, never skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import DataError
from nanochat.data.shards import (
    ROWS_PER_GROUP,
    read_manifest,
    read_shard,
    read_texts,
    write_manifest,
    write_shard,
    write_shards,
)  # fmt: skip

TEXTS = [f"Text {number} " * 5 for number in range(2500)]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return tmp_path / write_shard(tmp_path, "shard_00007.parquet", "train", TEXTS).path


def read(file: Path) -> list[str]:
    return [text for group in read_shard(file) for text in group]


def test_row_groups_column_and_bytes(shard: Path, tmp_path: Path) -> None:
    parquet = pq.ParquetFile(shard)
    assert parquet.schema_arrow.names == ["text"]
    assert parquet.metadata.row_group(0).num_rows == ROWS_PER_GROUP
    assert parquet.metadata.row_group(0).column(0).compression == "ZSTD"
    again = write_shard(tmp_path, "again.parquet", "train", TEXTS)
    assert (tmp_path / "again.parquet").read_bytes() == shard.read_bytes()
    assert again.rows == 2500
    assert again.text_bytes == sum(map(len, TEXTS))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=30))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("any")
    write_shard(folder, "x.parquet", "val", texts)
    assert read(folder / "x.parquet") == texts


@pytest.mark.criterion("T22")
@pytest.mark.parametrize("group", [0, 1, 2])
def test_a_corrupt_row_group_is_named(shard: Path, group: int) -> None:
    place = pq.ParquetFile(shard).metadata.row_group(group).column(0).data_page_offset
    data = bytearray(shard.read_bytes())
    data[place + 200] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(DataError, match=rf"shard_00007.parquet, row group {group}: damaged"):
        read(shard)


@pytest.mark.criterion("T22")
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_shard_is_named(shard: Path, keep: float) -> None:
    data = shard.read_bytes()
    shard.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(DataError, match=r"shard_00007.parquet, row group 0: damaged or truncated"):
        read(shard)


@pytest.mark.criterion("T22")
def test_an_empty_shard_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path, "x.parquet", "train", [])
    with pytest.raises(DataError, match=r"x.parquet, row group 0: no documents"):
        read(tmp_path / "x.parquet")


@pytest.mark.criterion("T22")
@pytest.mark.parametrize(
    "table",
    [{"body": ["a"]}, {"text": [1]}, {"text": [["a"]]}],
)
def test_a_wrong_schema_is_named(tmp_path: Path, table: dict[str, list[object]]) -> None:
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x.parquet, row group 0: columns are .*, wanted text: string"):
        read(tmp_path / "x.parquet")


@pytest.mark.criterion("T22")
def test_missing_texts_and_files_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b", None]}), tmp_path / "x.parquet", row_group_size=2)
    with pytest.raises(DataError, match=r"x.parquet, row group 1: 1 documents without text"):
        read(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"y.parquet is missing"):
        read(tmp_path / "y.parquet")


def test_large_strings_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array(["a", "ü"], pa.large_string())}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet") == ["a", "ü"]


def test_shards_are_cut_by_bytes_and_listed(tmp_path: Path) -> None:
    train = write_shards(tmp_path, TEXTS[:2000], "train", 0, 50_000)
    val = write_shards(tmp_path, TEXTS[2000:], "val", len(train), 1 << 30)
    write_manifest(tmp_path, "test", train + val, {"python": "3.11.7"})
    manifest = read_manifest(tmp_path)
    assert len(manifest.splits["train"]) > 1
    assert manifest.splits["val"] == [f"pretrain/shard_{len(train):05d}.parquet"]
    assert list(read_texts(tmp_path, "train")) == TEXTS[:2000]
    assert list(read_texts(tmp_path, "val")) == TEXTS[2000:]
    assert json.loads((tmp_path / "manifest.json").read_text())["python"] == "3.11.7"


def test_a_manifest_needs_both_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no val shard"):
        write_manifest(tmp_path, "test", write_shards(tmp_path, ["a"], "train", 0, 9), {})


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 2}', '{"schema": 1, "source": "x"}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest.json"):
        read_manifest(tmp_path)
