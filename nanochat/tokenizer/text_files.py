"""Files of text, to train a tokenizer on or to measure one with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from artifacts.atomic import disk_errors
from artifacts.errors import DataError, ResourceError, UsageError
from nanochat.data.shards import read_shard

PART_CHARS = 1_000_000


def read_files(paths: Iterable[Path], part_chars: int = PART_CHARS) -> Iterator[str]:
    """The texts of ``.parquet`` files (column ``text``) and, for any other name, of UTF-8 text files.

    A text file comes in parts of about ``part_chars`` characters, cut before a line that begins with no white
    space: there no piece goes on, so the same tokens are learned. Raises ResourceError for a missing file,
    DataError for a damaged one.
    """
    for path in paths:
        if not path.exists():
            raise ResourceError(f"{path}: no such file", "check the path")
        if path.is_dir():
            raise UsageError(f"{path} is a folder", "name the files in it")
        with disk_errors(path):
            yield from _parquet(path) if path.suffix == ".parquet" else _text(path, part_chars)


def _parquet(path: Path) -> Iterator[str]:
    for texts in read_shard(path):
        yield from texts


def _text(path: Path, part_chars: int) -> Iterator[str]:
    lines: list[str] = []
    size = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line in file:
                if size >= part_chars and not line[0].isspace():
                    yield "".join(lines)
                    lines, size = [], 0
                lines.append(line)
                size += len(line)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error.reason}", "convert it, or leave it out") from None
    if lines:
        yield "".join(lines)
