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
    """Shards whose document number n consists of token n + 1 only, so that rows can be read back."""
    number = 0
    for index, shard in enumerate(lengths):
        tokens = [np.full(length, number + row + 1, np.uint16) for row, length in enumerate(shard)]
        number += len(shard)
        stem = folder / f"shard_{index:05}"
        np.save(f"{stem}.tokens.npy", np.concatenate(tokens))
        np.save(f"{stem}.offsets.npy", np.cumsum([0, *shard], dtype=np.int64))
        about = {"schema": 1, "split": split, "rows": len(shard), "tokens": sum(shard)}
        stem.with_suffix(".json").write_text(json.dumps(about))


@pytest.fixture(scope="module")
def lengths() -> list[list[int]]:
    drawn = np.random.default_rng(5).integers(1, 50, 1500)
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


@pytest.fixture(params=["pretrain", "conversation"])
def make(request: pytest.FixtureRequest, tokens_dir: Path, conversations) -> Callable[..., PackedLoader]:
    """``make(rank, world_size, batch)`` of either loader."""
    if request.param == "pretrain":
        return lambda rank, world, batch=2: PretrainLoader(tokens_dir, "train", batch, 64, BOS, rank, world)
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
                assert batch.epoch == expected.epoch


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
    state["position"]["waiting"] = [10**8] * 5000
    assert len(json.dumps(state)) <= 64 * 1024


@pytest.mark.criterion("T21")
@pytest.mark.parametrize("shuffle", [True, False])
def test_one_epoch_holds_each_document_once_and_reports_what_was_cropped(
    tokens_dir, lengths, shuffle
) -> None:
    loaders = [PretrainLoader(tokens_dir, "train", 2, 64, BOS, rank, 2, shuffle=shuffle) for rank in range(2)]
    found: list[tuple[int, int]] = []
    documents = [length + 1 for shard in lengths for length in shard]
    while loaders[0].ledger()["seen_documents"] <= len(documents):
        for inputs, targets in global_rows(loaders, 1):
            row = torch.cat((inputs, targets[-1:])).tolist()
            starts = [position for position, token in enumerate(row) if token == BOS]
            assert starts[0] == 0
            for start, end in zip(starts, [*starts[1:], len(row)], strict=True):
                assert len(set(row[start + 1 : end])) <= 1
                found.append((row[start + 1] - 1 if end - start > 1 else -1, end - start))
    first_epoch = found[: len(documents)]
    visits = Counter(document for document, _ in first_epoch)
    only_bos = visits.pop(-1, 0)  # cropped to their BOS: it does not say which document they were
    assert set(visits.values()) == {1}
    assert len(visits) + only_bos == len(documents)
    ledger = loaders[1].ledger()
    assert ledger["used_tokens"] == sum(tokens for _, tokens in found)
    whole = sum(document >= 0 and documents[document] == tokens for document, tokens in found)
    assert (ledger["used_documents"], ledger["cropped_documents"]) == (whole, len(found) - whole)
    for unit in ("documents", "tokens"):
        assert sum(ledger[f"{what}_{unit}"] for what in ("used", "cropped", "left")) == ledger[f"seen_{unit}"]


def test_targets_are_the_next_tokens_and_splits_do_not_mix(tmp_path: Path) -> None:
    write_shards(tmp_path, [[5, 30], [7]])
    (tmp_path / "shard_00001.json").write_text(json.dumps({"split": "val", "rows": 1, "tokens": 7}))
    batch = PretrainLoader(tmp_path, "val", 2, 15, BOS).next()
    assert batch.inputs_BT.tolist() == [[BOS, *[3] * 7, BOS, *[3] * 6]] * 2
    assert batch.targets_BT.tolist() == [[*[3] * 7, BOS, *[3] * 7]] * 2
    assert batch.inputs_BT.dtype == batch.targets_BT.dtype == torch.int64


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
    assert batch.inputs_BT.tolist() == [[BOS, *range(6, 13)], [BOS, 1, 2, 3, BOS, 4, 5, PAD]]
    assert batch.targets_BT.tolist()[0] == [6, *[IGNORE] * 7]
    assert batch.targets_BT.tolist()[1][:7] == [IGNORE, 2, 3, IGNORE, 4, IGNORE, IGNORE]
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
