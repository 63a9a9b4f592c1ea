"""Packing against a slow oracle, its accounting, and its state."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.data.order import DocumentOrder
from nanochat.data.packing import Crop, Packer, Piece

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)
CROPS = st.sampled_from(["carry", "drop", "never"])
CAPACITIES = st.integers(2, 30)


def make(lengths: list[int], capacity: int, buffer: int, crop: Crop) -> Packer:
    order = DocumentOrder([len(lengths)], seed=0, block=8)
    return Packer(order, np.array(lengths).__getitem__, capacity, buffer=buffer, crop=crop)


def oracle(lengths: list[int], capacity: int, buffer: int, crop: Crop, rows: int) -> list[list[Piece]]:
    """The same rule read off its description, by scanning the whole buffer for every piece."""
    order, epoch, waiting, packed = DocumentOrder([len(lengths)], seed=0, block=8), 0, [], []
    coming = np.concatenate(list(order.epoch(0))).tolist()
    for _ in range(rows):
        row, space = [], capacity
        while space:
            while len(waiting) < buffer and (coming or not waiting):
                if not coming:
                    epoch += 1
                    coming = np.concatenate(list(order.epoch(epoch))).tolist()
                waiting.append((coming.pop(0), 0))
            needs = [min(capacity, lengths[d] - start + bool(start)) for d, start in waiting]
            fitting = [index for index, need in enumerate(needs) if need <= space]
            if not row:
                chosen = 0
            elif fitting:
                chosen = max(fitting, key=lambda index: (needs[index], index))
            elif crop == "never":
                break
            else:
                chosen = min(range(len(waiting)), key=lambda index: (needs[index], index))
            document, start = waiting.pop(chosen)
            row.append(Piece(document, start, min(needs[chosen], space)))
            end = start + row[-1].tokens - bool(start)
            if crop == "carry" and end < lengths[document]:
                waiting.append((document, end))
            space -= row[-1].tokens
        packed.append(row)
    return packed


@settings(deadline=None)
@given(LENGTHS, CAPACITIES, st.integers(1, 20), CROPS)
def test_rows_are_those_of_the_oracle(lengths, capacity, buffer, crop) -> None:
    packer = make(lengths, capacity, buffer, crop)
    assert [packer.next_row() for _ in range(25)] == oracle(lengths, capacity, buffer, crop, 25)


@settings(deadline=None)
@given(LENGTHS, CAPACITIES, st.integers(1, 20), st.sampled_from(["carry", "drop"]))
def test_cropping_fills_every_row_and_not_cropping_keeps_what_fits_whole(
    lengths, capacity, buffer, crop
) -> None:
    cropping, keeping = make(lengths, capacity, buffer, crop), make(lengths, capacity, buffer, "never")
    for _ in range(15):
        assert sum(piece.tokens for piece in cropping.next_row()) == capacity
        row = keeping.next_row()
        assert 0 < sum(piece.tokens for piece in row) <= capacity
        assert all(tokens == min(lengths[document], capacity) for document, _, tokens in row)


def pack_epochs(packer: Packer, documents: int, epochs: int) -> list[Piece]:
    """Pieces of rows until ``epochs`` passes are packed, a few of the next one with them."""
    pieces: list[Piece] = []
    while (ledger := packer.ledger())["seen_documents"] - ledger["left_documents"] < epochs * documents:
        pieces += packer.next_row()
    return pieces


@pytest.mark.criterion("T21")
@settings(deadline=None)
@given(LENGTHS, CAPACITIES, st.integers(1, 20))
def test_an_epoch_with_tails_carried_on_holds_each_token_exactly_once(lengths, capacity, buffer) -> None:
    pieces = pack_epochs(make(lengths, capacity, buffer, "carry"), len(lengths), 2)
    spans = [(d, start, start + tokens - bool(start)) for d, start, tokens in pieces]
    tokens = [(document, token) for document, start, end in spans for token in range(start, end)]
    everything = sorted((d, token) for d, length in enumerate(lengths) for token in range(length))
    for epoch in range(2):
        assert sorted(tokens[epoch * sum(lengths) : (epoch + 1) * sum(lengths)]) == everything


@pytest.mark.criterion("T21")
@settings(deadline=None)
@given(LENGTHS, CAPACITIES, st.integers(1, 20), st.sampled_from(["drop", "never"]))
def test_an_epoch_takes_each_document_once_and_reports_what_was_cut_off(
    lengths, capacity, buffer, crop
) -> None:
    packer = make(lengths, capacity, buffer, crop)
    pieces = pack_epochs(packer, len(lengths), 2)
    for epoch in range(2):
        taken = pieces[epoch * len(lengths) : (epoch + 1) * len(lengths)]
        assert sorted(piece.document for piece in taken) == list(range(len(lengths)))
    lost, ledger = [lengths[document] - tokens for document, _, tokens in pieces], packer.ledger()
    assert (ledger["cropped_tokens"], ledger["cropped_documents"]) == (sum(lost), sum(map(bool, lost)))
    assert ledger["repeated_bos"] == 0


@pytest.mark.criterion("T21")
@settings(deadline=None)
@given(LENGTHS, CAPACITIES, st.integers(1, 20), CROPS, st.integers(0, 60))
def test_the_ledger_adds_up_at_any_moment(lengths, capacity, buffer, crop, rows) -> None:
    packer = make(lengths, capacity, buffer, crop)
    pieces = [piece for _ in range(rows) for piece in packer.next_row()]
    ledger = packer.ledger()
    again = sum(piece.start > 0 for piece in pieces)
    assert (ledger["rows"], ledger["repeated_bos"]) == (rows, again)
    assert ledger["used_tokens"] == sum(piece.tokens for piece in pieces) - again
    assert ledger["empty_tokens"] == rows * capacity - ledger["used_tokens"] - again
    for unit in ("documents", "tokens"):
        parts = [ledger[f"{what}_{unit}"] for what in ("used", "cropped", "left")]
        assert sum(parts) == ledger[f"seen_{unit}"]
    epochs, rest = divmod(ledger["seen_documents"], len(lengths))
    drawn = np.concatenate(list(DocumentOrder([len(lengths)], seed=0, block=8).epoch(epochs)))[:rest]
    assert ledger["seen_tokens"] == epochs * sum(lengths) + sum(lengths[document] for document in drawn)


@settings(deadline=None)
@given(LENGTHS, CAPACITIES, st.integers(1, 20), CROPS, st.integers(0, 40))
def test_a_restored_packer_continues_exactly(lengths, capacity, buffer, crop, cut) -> None:
    packer, resumed = make(lengths, capacity, buffer, crop), make(lengths, capacity, buffer, crop)
    for _ in range(cut):
        packer.next_row()
    resumed.load_state_dict(json.loads(json.dumps(packer.state_dict())))
    assert resumed.ledger() == packer.ledger()
    assert [resumed.next_row() for _ in range(30)] == [packer.next_row() for _ in range(30)]
    assert (resumed.epoch, resumed.state_dict()) == (packer.epoch, packer.state_dict())


def test_long_documents_take_turns() -> None:
    packer = make([100] * 8, 10, 8, "carry")
    firsts = [packer.next_row()[0].document for _ in range(24)]
    assert len(set(firsts[:8])) == 8
    assert firsts == firsts[:8] * 3
