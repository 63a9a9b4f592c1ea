"""Loaders over real files: what is in a row, exact resume, any number of ranks, complete accounting."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import DataError
from nanochat.data.loader import IGNORE, ConversationLoader, PackedLoader, PretrainLoader

BOS = 0


def write_shards(folder: Path, lengths: list[list[int]], split: str = "train") -> None:
    """Shards whose tokens are 1, 2, 3, … through all of them, so that rows can be read back."""
    first = 1
    for index, shard in enumerate(lengths):
        stem = folder / f"shard_{index:05}"
        np.save(f"{stem}.tokens.npy", np.arange(first, first + sum(shard), dtype=np.uint16))
        np.save(f"{stem}.offsets.npy", np.cumsum([0, *shard], dtype=np.int64))
        about = {"schema": 1, "split": split, "rows": len(shard), "tokens": sum(shard)}
        stem.with_suffix(".json").write_text(json.dumps(about))
        first += sum(shard)


@pytest.fixture(scope="module")
def lengths() -> list[list[int]]:
    """Of documents; some are longer than a row, one is empty."""
    drawn = np.random.default_rng(5).integers(1, 50, 1500)
    drawn[[3, 400, 700, 1100]] = 0, 300, 129, 64
    return [drawn[:700].tolist(), drawn[700:701].tolist(), drawn[701:].tolist()]


@pytest.fixture(scope="module")
def tokens_dir(tmp_path_factory: pytest.TempPathFactory, lengths: list[list[int]]) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    write_shards(folder, lengths)
    return folder


@pytest.fixture(scope="module")
def conversations() -> list[tuple[list[int], list[int]]]:
    """Conversation n: BOS, then token n + 1; a mask with at least one 1, some longer than any row."""
    drawn = np.random.default_rng(6)
    rows = []
    for number in range(900):
        mask = drawn.integers(0, 2, drawn.integers(1, 80)).tolist()
        rows.append(([BOS] + [number + 1] * len(mask), [0, 1, *mask[1:]]))
    return rows


@pytest.fixture(params=["carry", "drop", "conversation"])
def make(request: pytest.FixtureRequest, tokens_dir: Path, conversations) -> Callable[..., PackedLoader]:
    """``make(rank, world_size, batch)`` of either loader."""
    if request.param != "conversation":
        return lambda rank, world, batch=2: PretrainLoader(
            tokens_dir, "train", batch, 64, BOS, rank, world, crop=request.param
        )
    return lambda rank, world, batch=2: ConversationLoader(conversations, batch, 64, BOS, rank, world)


def global_rows(loaders: list[PackedLoader], batches: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows in the order in which they were packed, from the shares of all ranks."""
    for _ in range(batches):
        shares = [loader.next() for loader in loaders]
        for row in range(len(shares[0].inputs_BT)):
            yield from ((share.inputs_BT[row], share.targets_BT[row]) for share in shares)


def assert_same(left: Iterator, right: Iterator) -> None:
    for (inputs, targets), (other_inputs, other_targets) in zip(left, right, strict=True):
        assert torch.equal(inputs, other_inputs)
        assert torch.equal(targets, other_targets)


@pytest.mark.criterion("T20")
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_resume_is_bitwise_at_any_cut_and_across_an_epoch_edge(make, world_size: int) -> None:
    cuts, after = [0, 1, 30, 77, 140], 200
    for rank in range(world_size):
        loader, states, batches = make(rank, world_size), {}, []
        for number in range(max(cuts) + after):
            if number in cuts:
                states[number] = json.dumps(loader.state_dict())
            batches.append(loader.next())
        assert batches[0].epoch == 0
        assert batches[-1].epoch > 0
        for cut, text in states.items():
            assert len(text) <= 64 * 1024
            resumed = make(rank, world_size)
            resumed.load_state_dict(json.loads(text))
            for expected in batches[cut : cut + after]:
                batch = resumed.next()
                assert torch.equal(batch.inputs_BT, expected.inputs_BT)
                assert torch.equal(batch.targets_BT, expected.targets_BT)
                assert (batch.epoch, batch.supervised) == (expected.epoch, expected.supervised)


@pytest.mark.criterion("T08")
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (4, 2), (1, 4)])
def test_another_number_of_ranks_continues_the_same_rows(make, before: int, after: int) -> None:
    batch = 4
    reference = make(0, 1, 1)
    old = [make(rank, before, batch) for rank in range(before)]
    assert_same(global_rows([reference], 20 * batch * before), global_rows(old, 20))
    new = [make(rank, after, batch) for rank in range(after)]
    for rank, loader in enumerate(new):
        loader.load_state_dict(old[rank % before].state_dict())
    assert_same(global_rows([reference], 20 * batch * after), global_rows(new, 20))


@pytest.mark.criterion("T20")
def test_the_state_of_the_largest_corpus_stays_small(make) -> None:
    state = make(0, 1).state_dict()
    state["position"] |= {"waiting": [10**8] * 3000, "starts": [10**6] * 3000}
    assert len(json.dumps(state)) <= 64 * 1024


def pieces_of_an_epoch(loaders: list[PackedLoader]) -> Iterator[list[int]]:
    """The tokens behind each BOS, in the order in which they were packed, until a new epoch begins."""
    while loaders[0].state_dict()["position"]["epoch"] == 0:
        for inputs, targets in global_rows(loaders, 1):
            row = torch.cat((inputs, targets[-1:])).tolist()
            starts = [position for position, token in enumerate(row) if token == BOS]
            assert starts[0] == 0
            for start, end in zip(starts, [*starts[1:], len(row)], strict=True):
                piece = row[start + 1 : end]
                assert piece == list(range(piece[0], piece[0] + len(piece))) if piece else True
                yield piece


@pytest.mark.criterion("T21")
@pytest.mark.parametrize("shuffle", [True, False])
def test_one_epoch_holds_every_token_once(tokens_dir, lengths, shuffle) -> None:
    loaders = [PretrainLoader(tokens_dir, "train", 2, 64, BOS, rank, 2, shuffle=shuffle) for rank in range(2)]
    pieces = list(pieces_of_an_epoch(loaders))
    found, total = [token for piece in pieces for token in piece], sum(map(sum, lengths))
    assert sorted(found[:total]) == list(range(1, total + 1))
    ledger = loaders[1].ledger()
    assert ledger == loaders[0].ledger()
    assert (ledger["cropped_documents"], ledger["cropped_tokens"], ledger["empty_tokens"]) == (0, 0, 0)
    assert ledger["used_tokens"] + ledger["repeated_bos"] == len(found) + len(pieces)
    for unit in ("documents", "tokens"):
        assert ledger[f"used_{unit}"] + ledger[f"left_{unit}"] == ledger[f"seen_{unit}"]


@pytest.mark.criterion("T21")
@pytest.mark.parametrize("shuffle", [True, False])
def test_one_epoch_without_tails_holds_each_document_once_and_reports_what_was_cropped(
    tokens_dir, lengths, shuffle
) -> None:
    loaders = [
        PretrainLoader(tokens_dir, "train", 2, 64, BOS, rank, 2, shuffle=shuffle, crop="drop")
        for rank in range(2)
    ]
    pieces, documents = list(pieces_of_an_epoch(loaders)), [length for shard in lengths for length in shard]
    beginnings = dict(zip(np.cumsum([1, *documents[:-1]]).tolist(), documents, strict=True))
    visits = Counter(piece[0] for piece in pieces[: len(documents)] if piece)
    assert set(visits) <= set(beginnings)
    assert set(visits.values()) == {1}
    bare = sum(not piece for piece in pieces[: len(documents)])  # nothing but a BOS: of which document?
    assert len(visits) + bare == len(documents)
    lost = sum(documents) - sum(map(len, pieces[: len(documents)]))
    lost += sum(beginnings[piece[0]] - len(piece) for piece in pieces[len(documents) :] if piece)
    ledger = loaders[1].ledger()
    assert ledger["used_tokens"] == sum(len(piece) + 1 for piece in pieces)
    assert ledger["cropped_tokens"] == pytest.approx(lost, rel=1e-3)
    assert ledger["cropped_tokens"] > 0
    for unit in ("documents", "tokens"):
        assert sum(ledger[f"{what}_{unit}"] for what in ("used", "cropped", "left")) == ledger[f"seen_{unit}"]


def test_targets_are_the_next_tokens_and_splits_do_not_mix(tmp_path: Path) -> None:
    write_shards(tmp_path, [[5, 30], [7]])
    (tmp_path / "shard_00001.json").write_text(json.dumps({"split": "val", "rows": 1, "tokens": 7}))
    batch = PretrainLoader(tmp_path, "val", 2, 15, BOS).next()
    text = list(range(36, 43))
    assert batch.inputs_BT.tolist() == [[BOS, *text, BOS, *text[:-1]]] * 2
    assert batch.targets_BT.tolist() == [[*text, BOS, *text]] * 2
    assert batch.inputs_BT.dtype == batch.targets_BT.dtype == torch.int64
    assert batch.supervised == 30


def test_a_tail_goes_on_behind_a_bos(tmp_path: Path) -> None:
    write_shards(tmp_path, [[8]])
    rows = [
        PretrainLoader(tmp_path, "train", 3, 4, BOS, crop=crop).next().inputs_BT for crop in ("carry", "drop")
    ]
    assert rows[0].tolist() == [[BOS, 1, 2, 3], [BOS, 5, 6, 7], [BOS, 1, 2, 3]]
    assert rows[1].tolist() == [[BOS, 1, 2, 3]] * 3


MASKS = st.lists(st.lists(st.integers(0, 1), min_size=0, max_size=12), min_size=1, max_size=30)
PAD = 9999


@settings(deadline=None)
@given(MASKS, st.booleans(), st.integers(1, 10), st.integers(1, 2))
def test_every_row_has_a_target_and_each_target_is_allowed_and_next(masks, masked, seq_len, world) -> None:
    rows = [([BOS, *range(100 * n + 1, 100 * n + 1 + len(mask))], [0, *mask]) for n, mask in enumerate(masks)]
    if not any(any(mask[:seq_len]) if masked else mask for mask in masks):
        with pytest.raises(DataError, match="token to train on"):
            ConversationLoader(rows, 1, seq_len, PAD, masked=masked)
        return
    allowed = {t for ids, mask in rows for t, flag in zip(ids, mask, strict=True) if flag or not masked}
    loaders = [ConversationLoader(rows, 1, seq_len, PAD, rank, world, masked=masked) for rank in range(world)]
    for inputs, targets in global_rows(loaders, 12):
        assert (targets != IGNORE).any()
        for following, target in zip([*inputs.tolist()[1:], None], targets.tolist(), strict=True):
            if following is None:  # the row's last token is seen as a target only
                assert target in allowed | {IGNORE}
            else:
                assert target == (following if following in allowed else IGNORE)


def test_conversations_are_packed_whole_and_padded_and_what_is_lost_is_counted() -> None:
    rows = [
        ([BOS, 1, 2, 3], [0, 0, 1, 1]),
        ([BOS, 4, 5], [0, 1, 0]),
        ([BOS, *range(6, 16)], [0, 1, *[0] * 8, 1]),  # longer than a row
        ([BOS, *range(20, 40)], [0] * 20 + [1]),  # its only target lies beyond a row: dropped
        ([BOS], [0]),
    ]
    loader = ConversationLoader(rows, 2, 8, PAD)
    batch = loader.next()
    assert batch.inputs_BT.tolist() == [[BOS, 4, 5, BOS, 1, 2, 3, PAD], [BOS, *range(6, 13)]]
    assert batch.targets_BT.tolist()[0][:7] == [4, IGNORE, IGNORE, IGNORE, 2, 3, IGNORE]
    assert batch.targets_BT.tolist()[1] == [6, *[IGNORE] * 7]
    assert batch.supervised == 4
    ledger = loader.ledger()
    assert (ledger["dropped_documents"], ledger["cropped_documents"], ledger["cropped_tokens"]) == (2, 1, 2)


def test_padding_is_never_a_target() -> None:
    batch = ConversationLoader([([BOS, 1, 2], [0, 0, 1])], 1, 6, PAD, masked=False).next()
    assert batch.inputs_BT.tolist() == [[BOS, 1, 2, BOS, 1, 2]]
    batch = ConversationLoader([([BOS, 1, 2], [0, 0, 1])], 1, 4, PAD, masked=False).next()
    assert batch.inputs_BT.tolist() == [[BOS, 1, 2, PAD]]
    assert batch.targets_BT.tolist() == [[1, 2, IGNORE, IGNORE]]


def test_state_of_other_data_is_refused_by_field(tokens_dir: Path) -> None:
    state = PretrainLoader(tokens_dir, "train", 2, 64, BOS, seed=1).state_dict()
    with pytest.raises(DataError, match="seed = 1, this run has 2"):
        PretrainLoader(tokens_dir, "train", 2, 64, BOS, seed=2).load_state_dict(state)
    with pytest.raises(DataError, match="schema = None"):
        PretrainLoader(tokens_dir, "train", 2, 64, BOS, seed=1).load_state_dict({"data": state["data"]})
