"""Text and Parquet files as training text: nothing is lost, and a part ends where a piece does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import DataError, NanochatError, ResourceError, UsageError
from nanochat.data.shards import write_shard
from nanochat.tokenizer.text_files import read_files
from nanochat.tokenizer.training import train_on_texts


def test_text_and_parquet_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\n")
    write_shard(tmp_path, "b.parquet", "train", ["three", "four"])
    (tmp_path / "empty").touch()
    paths = [tmp_path / name for name in ("a.txt", "b.parquet", "empty")]
    assert list(read_files(paths)) == ["one\r\ntwo\n", "three", "four"]


def test_a_long_text_comes_in_parts_that_make_the_same_tokens(tmp_path: Path) -> None:
    tokenizer = train_on_texts(["a.\n\n\n b \n  \r\n.\r\n\t\n" * 9, "1\n\n\n\n" * 9], 275)  # merges line ends

    @settings(max_examples=200, deadline=None)
    @given(st.text(alphabet="ab 1.\n\r\t\u2028\u00a0'"), st.integers(1, 9))
    def check(text: str, part_chars: int) -> None:
        path = tmp_path / "text"
        path.write_bytes(text.encode())
        parts = list(read_files([path], part_chars))
        assert "".join(parts) == text
        assert [id_ for part in parts for id_ in tokenizer.encode(part)] == tokenizer.encode(text)

    check()
    (tmp_path / "lines").write_text("some words\nand more of them\n" * 50)
    parts = list(read_files([tmp_path / "lines"], 100))
    assert len(parts) > 5
    assert train_on_texts(parts, 280) == train_on_texts(["".join(parts)], 280)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"abc\xff")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    cases: dict[str, type[NanochatError]] = {
        "none.txt": ResourceError, "": UsageError, "bad": DataError, "bad.parquet": DataError,
    }  # fmt: skip
    for name, kind in cases.items():
        with pytest.raises(kind, match=name or tmp_path.name):
            list(read_files([tmp_path / name]))
