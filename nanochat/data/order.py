"""The order in which an epoch visits documents: sizes of shards and a seed in, document numbers out.

Documents are numbered through all shards. A shuffle permutes blocks of neighbouring documents and the
documents inside each block, so reading stays local and a position costs no memory to remember.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


class DocumentOrder:
    """A deterministic order for every epoch; a block never crosses the border of a shard."""

    def __init__(self, sizes: Sequence[int], *, seed: int, shuffle: bool = True, block: int = 1024) -> None:
        self.seed, self.shuffle = seed, shuffle
        self._blocks: list[range] = []
        first = 0
        for size in sizes:
            end = first + size
            self._blocks += [range(start, min(start + block, end)) for start in range(first, end, block)]
            first = end
        self._count = first

    def __len__(self) -> int:
        """Documents in one epoch."""
        return self._count

    def epoch(self, epoch: int, start: int = 0) -> Iterator[np.ndarray]:
        """Document numbers (int64) of ``epoch`` from position ``start`` on, a block at a time.

        No array is empty. Whole blocks before ``start`` cost nothing but a step.
        """
        for index in self._block_order(epoch):
            block = self._blocks[index]
            if start < len(block):
                yield self._inside(epoch, index)[start:]
            start = max(0, start - len(block))

    def _block_order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(len(self._blocks)))
        order: list[int] = np.random.default_rng([self.seed, epoch]).permutation(len(self._blocks)).tolist()
        return order

    def _inside(self, epoch: int, index: int) -> np.ndarray:
        block = np.array(self._blocks[index])
        return (
            np.random.default_rng([self.seed, epoch, index + 1]).permutation(block) if self.shuffle else block
        )
