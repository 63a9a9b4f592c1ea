"""The order of an epoch: complete, local, seeded, and enterable at any position."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.data.order import DocumentOrder


def visited(order: DocumentOrder, epoch: int, start: int = 0) -> list[int]:
    blocks = list(order.epoch(epoch, start))
    assert all(len(block) for block in blocks)
    return np.concatenate([np.empty(0, np.int64), *blocks]).tolist()


SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=5)


@settings(deadline=None)
@given(SIZES, st.integers(0, 5), st.booleans(), st.integers(1, 8), st.integers(0, 3))
def test_an_epoch_visits_every_document_once_from_any_position(sizes, seed, shuffle, block, epoch) -> None:
    order = DocumentOrder(sizes, seed=seed, shuffle=shuffle, block=block)
    whole = visited(order, epoch)
    assert sorted(whole) == list(range(sum(sizes)))
    assert len(order) == sum(sizes)
    for start in range(0, sum(sizes) + 1, 7):
        assert visited(order, epoch, start) == whole[start:]


def test_seed_and_epoch_change_the_order_and_plain_order_is_the_stored_one() -> None:
    order = DocumentOrder([500, 500], seed=1)
    other = DocumentOrder([500, 500], seed=2)
    assert len({tuple(visited(*which)) for which in [(order, 0), (order, 1), (other, 0)]}) == 3
    assert visited(DocumentOrder([3, 2], seed=1, shuffle=False), 4) == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(SIZES, st.integers(1, 8))
def test_neighbours_in_a_block_stay_together_and_blocks_do_not_cross_shards(sizes, block) -> None:
    order = visited(DocumentOrder(sizes, seed=3, block=block), 0)
    firsts = [0, *accumulate(sizes)]

    def block_of(document: int) -> tuple[int, int]:
        shard = max(index for index, first in enumerate(firsts) if first <= document)
        return shard, (document - firsts[shard]) // block

    blocks = [block_of(document) for document in order]
    runs = [where for position, where in enumerate(blocks) if position == 0 or blocks[position - 1] != where]
    assert len(runs) == len(set(runs))
