"""Batches for training: token shards or rendered conversations in, tensors of full rows out.

Shapes: B rows a rank, T = seq_len, C = T + 1 tokens a packed row (inputs: the first T, targets: the last T).

Every rank packs the same stream of rows and keeps rows rank, rank + world_size, … of each global batch.
So the state is one small JSON object, equal on all ranks, that continues under any number of ranks with
no document lost or repeated. The price: each rank spends the packing of all ranks (lengths only, some
microseconds a document); it reads the tokens of its own rows only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from artifacts.errors import DataError
from nanochat.data.order import DocumentOrder
from nanochat.data.packing import Packer, Piece
from nanochat.data.token_shards import TokenShards

IGNORE = -1
"""Target value that the loss leaves out."""

STATE_SCHEMA = 2


@dataclass(frozen=True)
class Batch:
    """One rank's share of a step: int64 tensors of shape (B, T); ``epoch`` counts finished passes.

    ``supervised``: how many of its targets are not IGNORE.
    """

    inputs_BT: torch.Tensor
    targets_BT: torch.Tensor
    epoch: int
    supervised: int


class PackedLoader:
    """What both loaders share: rows of pieces become tensors, with exact state and accounting."""

    def __init__(
        self, packer: Packer, identity: dict[str, Any], batch: int, rank: int, world_size: int
    ) -> None:
        assert 0 <= rank < world_size
        assert batch > 0
        self._packer, self._identity = packer, identity
        self._batch, self._rank, self._world_size = batch, rank, world_size

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T) of a batch."""
        return self._batch, self._packer.capacity - 1

    def tokens(self, rows: list[list[Piece]]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of ``rows``, and the same with IGNORE for what is no target; shape (B, C), integers."""
        raise NotImplementedError

    def next(self, into: tuple[torch.Tensor, torch.Tensor] | None = None) -> Batch:
        """This rank's rows of the next global batch, in new tensors or in the two of ``into`` (CPU)."""
        count = self._batch * self._world_size
        rows = [self._packer.next_row() for _ in range(count)][self._rank :: self._world_size]
        ids_BC, targets_BC = self.tokens(rows)
        inputs_BT, targets_BT = into or [torch.empty(self.shape, dtype=torch.int64) for _ in range(2)]
        np.copyto(inputs_BT.numpy(), ids_BC[:, :-1])
        np.copyto(targets_BT.numpy(), targets_BC[:, 1:])
        supervised = int(np.count_nonzero(targets_BC[:, 1:] != IGNORE))
        return Batch(inputs_BT, targets_BT, self._packer.epoch, supervised)

    def ledger(self, state: dict[str, Any] | None = None) -> dict[str, int]:
        """Token and document accounting over all ranks up to ``state`` (now); see ``Packer.ledger``."""
        return self._packer.ledger(state and state["position"])

    def state_dict(self) -> dict[str, Any]:
        """Exact position as JSON, equal on all ranks; under 64 KB for buffers of up to 3,000 documents."""
        return {"schema": STATE_SCHEMA, "data": self._identity, "position": self._packer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state`` of any rank and any batch size. DataError if it is of other data."""
        expected = {"schema": STATE_SCHEMA, **self._identity}
        found = {"schema": state.get("schema"), **state.get("data", {})}
        for field in sorted(expected.keys() | found.keys()):
            if expected.get(field) != found.get(field):
                raise DataError(
                    f"loader state has {field} = {found.get(field)!r}, this run has {expected.get(field)!r}",
                    "resume with the data and settings of the checkpoint, or start a new run",
                )
        self._packer.load_state_dict(state["position"])


class PretrainLoader(PackedLoader):
    """Rows of documents, each behind a BOS, best fit first, the last one cut: no padding at all.

    ``tokens_dir`` is a tokens artifact. ``crop``: what becomes of the rest of a document that was cut;
    carried on, it begins with a BOS again. Ledger tokens include the first BOS of each document.
    """

    def __init__(
        self,
        tokens_dir: Path,
        split: str,
        batch: int,
        seq_len: int,
        bos: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        buffer: int = 1000,
        crop: Literal["carry", "drop"] = "carry",
    ) -> None:
        self._shards = TokenShards(tokens_dir, split)
        self._bos = bos
        order = DocumentOrder(self._shards.rows, seed=seed, shuffle=shuffle)
        packer = Packer(order, self._lengths, seq_len + 1, buffer=buffer, crop=crop)
        identity = {
            "split": split,
            "documents": len(order),
            "tokens": self._shards.tokens,
            "seq_len": seq_len,
            "seed": seed,
            "shuffle": shuffle,
            "buffer": buffer,
            "crop": crop,
        }
        super().__init__(packer, identity, batch, rank, world_size)

    def _lengths(self, numbers: np.ndarray) -> np.ndarray:
        return self._shards.lengths(numbers) + 1

    def tokens(self, rows: list[list[Piece]]) -> tuple[np.ndarray, np.ndarray]:
        """Each piece behind a BOS; every token may be a target."""
        ids_BC = np.full((len(rows), self._packer.capacity), self._bos, self._shards.dtype)
        for ids_C, pieces in zip(ids_BC, rows, strict=True):
            at = 0
            for document, start, tokens in pieces:
                ids_C[at + 1 : at + tokens] = self._shards.read(document, max(start - 1, 0), tokens - 1)
                at += tokens
        return ids_BC, ids_BC


class ConversationLoader(PackedLoader):
    """Rows of whole conversations, best fit first, padded with ``pad`` (never a target).

    ``rows`` are (ids, mask) as rendered, BOS first. ``masked`` trains on tokens whose mask is 1, else on
    all. A conversation longer than a row is truncated to it. One without any target inside a row teaches
    nothing and could leave a batch with an undefined mean loss, so it is left out and counted as
    ``dropped_documents``; hence every row, and every batch of every rank, has at least one target.
    """

    def __init__(
        self,
        rows: Sequence[tuple[Sequence[int], Sequence[int]]],
        batch: int,
        seq_len: int,
        pad: int,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        masked: bool = True,
        buffer: int = 1000,
    ) -> None:
        kept = [row for row in rows if _has_target(row, seq_len + 1, masked)]
        if not kept:
            raise DataError(
                f"none of {len(rows)} conversations has a token to train on within {seq_len} tokens",
                "use a longer sequence, or conversations with assistant messages",
            )
        self._dropped, self._pad = len(rows) - len(kept), pad
        self._firsts = np.array([0, *accumulate(len(ids) for ids, _ in kept)])
        self._ids = np.fromiter(chain.from_iterable(ids for ids, _ in kept), np.int64)
        mask = np.fromiter(chain.from_iterable(mask for _, mask in kept), bool)
        self._targets = np.where(mask, self._ids, IGNORE) if masked else self._ids
        order = DocumentOrder([len(kept)], seed=seed, block=len(kept))
        packer = Packer(order, self._lengths, seq_len + 1, buffer=buffer, crop="never")
        identity = {
            "documents": len(order),
            "tokens": len(self._ids),
            "seq_len": seq_len,
            "seed": seed,
            "buffer": buffer,
        }
        super().__init__(packer, identity, batch, rank, world_size)

    def _lengths(self, numbers: np.ndarray) -> np.ndarray:
        lengths: np.ndarray = self._firsts[numbers + 1] - self._firsts[numbers]
        return lengths

    def tokens(self, rows: list[list[Piece]]) -> tuple[np.ndarray, np.ndarray]:
        """Conversations one after the other, then ``pad``."""
        shape = len(rows), self._packer.capacity
        ids_BC, targets_BC = np.full(shape, self._pad), np.full(shape, IGNORE)
        for row, pieces in enumerate(rows):
            at = 0
            for document, _, tokens in pieces:
                first = self._firsts[document]
                ids_BC[row, at : at + tokens] = self._ids[first : first + tokens]
                targets_BC[row, at : at + tokens] = self._targets[first : first + tokens]
                at += tokens
        return ids_BC, targets_BC

    def ledger(self, state: dict[str, Any] | None = None) -> dict[str, int]:
        """As ``Packer.ledger``, and the conversations left out because they have no target."""
        return {**super().ledger(state), "dropped_documents": self._dropped}


def _has_target(row: tuple[Sequence[int], Sequence[int]], capacity: int, masked: bool) -> bool:
    ids, mask = row
    return any(mask[1:capacity]) if masked else len(ids) > 1
