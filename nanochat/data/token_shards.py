"""Reading a tokens artifact: a folder of memory-mapped shards in, documents by number out."""

from __future__ import annotations

import json
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from artifacts.errors import DataError

MAX_OPEN_SHARDS = 64
REBUILD = "rebuild the tokens artifact"


class Shard(NamedTuple):
    """One memory-mapped shard: documents concatenated, and where each begins (one more than documents)."""

    tokens: np.ndarray
    offsets: np.ndarray


class TokenShards:
    """The documents of one split of a tokens artifact, numbered through its shards in order of name.

    Raises DataError naming the shard for anything that does not fit its own description.
    """

    def __init__(self, folder: Path, split: str) -> None:
        described = [(path, json.loads(path.read_bytes())) for path in sorted(folder.glob("shard_*.json"))]
        chosen = [(path, about) for path, about in described if about["split"] == split and about["rows"]]
        if not chosen:
            raise DataError(f"{folder}: no token shard of split {split!r} among {len(described)} shards")
        self._paths = [path for path, _ in chosen]
        self.rows: list[int] = [about["rows"] for _, about in chosen]
        self.tokens: int = sum(about["tokens"] for _, about in chosen)
        self._firsts = [0, *accumulate(self.rows)]
        self._open = lru_cache(MAX_OPEN_SHARDS)(self._open_shard)
        self.dtype = np.dtype(np.uint16)
        for index, (path, about) in enumerate(chosen):
            shard = self._open(index)
            if len(shard.offsets) != about["rows"] + 1 or len(shard.tokens) != about["tokens"]:
                raise DataError(
                    f"{path}: its arrays do not hold {about['rows']} rows, {about['tokens']} tokens"
                )
            self.dtype = np.promote_types(self.dtype, shard.tokens.dtype)

    def _open_shard(self, index: int) -> Shard:
        stem = self._paths[index].with_suffix("")
        arrays = []
        for path in (stem.with_suffix(".tokens.npy"), stem.with_suffix(".offsets.npy")):
            try:
                mapped = np.load(path, mmap_mode="r", allow_pickle=False)
                arrays.append(mapped.view(np.ndarray))  # the same memory; a slice of a memmap costs 2 us
            except (OSError, ValueError, EOFError) as error:
                raise DataError(f"{path}: not a readable array: {error}", REBUILD) from None
        tokens, offsets = arrays
        if offsets[0] != 0 or offsets[-1] != len(tokens) or np.any(np.diff(offsets) < 0):
            raise DataError(f"{stem}.offsets.npy: offsets do not cover the tokens", REBUILD)
        return Shard(tokens, offsets)

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        """Tokens of each of these documents, int64."""
        shards = np.searchsorted(self._firsts, numbers, side="right") - 1
        lengths = np.empty(len(numbers), np.int64)
        for index in np.unique(shards).tolist():
            here = shards == index
            rows, offsets = numbers[here] - self._firsts[index], self._open(index).offsets
            lengths[here] = offsets[rows + 1] - offsets[rows]
        return lengths

    def read(self, number: int, start: int = 0, tokens: int | None = None) -> np.ndarray:
        """Token ids of document ``number``, or ``tokens`` of them from ``start`` on, in the shard's dtype."""
        index = bisect_right(self._firsts, number) - 1
        shard, row = self._open(index), number - self._firsts[index]
        first = int(shard.offsets[row]) + start
        return shard.tokens[first : int(shard.offsets[row + 1]) if tokens is None else first + tokens]
