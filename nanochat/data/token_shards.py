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
        for index, (path, about) in enumerate(chosen):
            shard = self._open(index)
            if len(shard.offsets) != about["rows"] + 1 or len(shard.tokens) != about["tokens"]:
                raise DataError(
                    f"{path}: its arrays do not hold {about['rows']} rows, {about['tokens']} tokens"
                )

    def _open_shard(self, index: int) -> Shard:
        stem = self._paths[index].with_suffix("")
        arrays = []
        for path in (stem.with_suffix(".tokens.npy"), stem.with_suffix(".offsets.npy")):
            try:
                arrays.append(np.load(path, mmap_mode="r", allow_pickle=False))
            except (OSError, ValueError, EOFError) as error:
                raise DataError(f"{path}: not a readable array: {error}", REBUILD) from None
        tokens, offsets = arrays
        if offsets[0] != 0 or offsets[-1] != len(tokens) or np.any(np.diff(offsets) < 0):
            raise DataError(f"{stem}.offsets.npy: offsets do not cover the tokens", REBUILD)
        return Shard(tokens, offsets)

    def _locate(self, number: int) -> tuple[Shard, int]:
        index = bisect_right(self._firsts, number) - 1
        return self._open(index), number - self._firsts[index]

    def length(self, number: int) -> int:
        """Tokens of document ``number``."""
        shard, row = self._locate(number)
        return int(shard.offsets[row + 1]) - int(shard.offsets[row])

    def read(self, number: int) -> np.ndarray:
        """Token ids of document ``number``, in the shard's own dtype."""
        shard, row = self._locate(number)
        return shard.tokens[shard.offsets[row] : shard.offsets[row + 1]]
