"""Packing against a slow oracle, its accounting, and its state."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.data.order import DocumentOrder
from nanochat.data.packing import Packer, Piece

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def make(lengths: list[int], capacity: int, buffer: int, crop: bool, seed: int = 0) -> Packer:
    order = DocumentOrder([len(lengths)], seed=seed, block=8)
    return Packer(order, lengths.__getitem__, capacity, buffer=buffer, crop=crop)


def oracle(lengths: list[int], capacity: int, buffer: int, crop: bool, rows: int) -> list[list[Piece]]:
    """The same rule read off its description, by scanning the whole buffer for every piece."""
    order, epoch, waiting, packed = DocumentOrder([len(lengths)], seed=0, block=8), 0, [], []
    coming = list(order.epoch(0))
    for _ in range(rows):
        row, space = [], capacity
        while space:
            while len(waiting) < buffer and (coming or not waiting):
                if not coming:
                    epoch += 1
                    coming = list(order.epoch(epoch))
                waiting.append(coming.pop(0))
            needs = {d: lengths[d] if crop else min(lengths[d], capacity) for d in waiting}
            fitting = [d for d in waiting if needs[d] <= space]
            if fitting:
                chosen = max(fitting, key=lambda d: (needs[d], d))
            elif crop:
                chosen = min(waiting, key=lambda d: (needs[d], d))
            else:
                break
            waiting.remove(chosen)
            row.append(Piece(chosen, min(needs[chosen], space)))
            space -= row[-1].tokens
        packed.append(row)
    return packed


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 30), st.integers(1, 20), st.booleans())
def test_rows_are_those_of_the_oracle(lengths, capacity, buffer, crop) -> None:
    packer = make(lengths, capacity, buffer, crop)
    assert [packer.next_row() for _ in range(25)] == oracle(lengths, capacity, buffer, crop, 25)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 30), st.integers(1, 20))
def test_cropping_fills_every_row_and_not_cropping_keeps_what_fits_whole(lengths, capacity, buffer) -> None:
    cropping, keeping = make(lengths, capacity, buffer, True), make(lengths, capacity, buffer, False)
    for _ in range(15):
        assert sum(piece.tokens for piece in cropping.next_row()) == capacity
        row = keeping.next_row()
        assert 0 < sum(piece.tokens for piece in row) <= capacity
        assert all(tokens == min(lengths[document], capacity) for document, tokens in row)


@pytest.mark.criterion("T21")
@settings(deadline=None)
@given(LENGTHS, st.integers(1, 30), st.integers(1, 20), st.booleans(), st.integers(1, 30))
def test_an_epoch_takes_each_document_once_and_the_ledger_adds_up(
    lengths, capacity, buffer, crop, extra_rows
) -> None:
    packer = make(lengths, capacity, buffer, crop)
    pieces = []
    while len(pieces) < 2 * len(lengths):
        pieces += packer.next_row()
    for epoch in range(2):
        taken = pieces[epoch * len(lengths) : (epoch + 1) * len(lengths)]
        assert sorted(piece.document for piece in taken) == list(range(len(lengths)))
    for _ in range(extra_rows):
        pieces += packer.next_row()
    ledger = packer.ledger()
    lost = [lengths[document] - tokens for document, tokens in pieces]
    assert ledger["used_tokens"] == sum(piece.tokens for piece in pieces)
    assert (ledger["cropped_tokens"], ledger["cropped_documents"]) == (sum(lost), sum(map(bool, lost)))
    assert ledger["empty_tokens"] == ledger["rows"] * capacity - ledger["used_tokens"]
    for unit in ("documents", "tokens"):
        parts = [ledger[f"{what}_{unit}"] for what in ("used", "cropped", "left")]
        assert sum(parts) == ledger[f"seen_{unit}"]
    epochs, rest = divmod(ledger["seen_documents"], len(lengths))
    order = DocumentOrder([len(lengths)], seed=0, block=8)
    drawn = epochs * sum(lengths) + sum(lengths[document] for document in list(order.epoch(epochs))[:rest])
    assert ledger["seen_tokens"] == drawn


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 30), st.integers(1, 20), st.booleans(), st.integers(0, 40))
def test_a_restored_packer_continues_exactly(lengths, capacity, buffer, crop, cut) -> None:
    packer, resumed = make(lengths, capacity, buffer, crop), make(lengths, capacity, buffer, crop)
    for _ in range(cut):
        packer.next_row()
    resumed.load_state_dict(json.loads(json.dumps(packer.state_dict())))
    assert resumed.ledger() == packer.ledger()
    assert [resumed.next_row() for _ in range(30)] == [packer.next_row() for _ in range(30)]
    assert (resumed.epoch, resumed.state_dict()) == (packer.epoch, packer.state_dict())
