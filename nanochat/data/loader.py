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
from pathlib import Path
from typing import Any

import numpy as np
import torch

from artifacts.errors import DataError
from nanochat.data.order import DocumentOrder
from nanochat.data.packing import Packer, Piece
from nanochat.data.token_shards import TokenShards

IGNORE = -1
"""Target value that the loss leaves out."""

STATE_SCHEMA = 1


@dataclass(frozen=True)
class Batch:
    """One rank's share of a step: int64 tensors of shape (B, T); ``epoch`` counts finished passes."""

    inputs_BT: torch.Tensor
    targets_BT: torch.Tensor
    epoch: int


class PackedLoader:
    """What both loaders share: rows of pieces become tensors, with exact state and accounting.

    A subclass says what a document is: ``document(number) -> (ids, supervised)``.
    """

    def __init__(
        self, packer: Packer, identity: dict[str, Any], batch: int, pad: int, rank: int, world_size: int
    ) -> None:
        assert 0 <= rank < world_size
        assert batch > 0
        self._packer, self._identity = packer, identity
        self._batch, self._pad, self._rank, self._world_size = batch, pad, rank, world_size

    def document(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of a document, and which of them may be targets (bool), both of its full length."""
        raise NotImplementedError

    def next(self) -> Batch:
        """This rank's rows of the next global batch."""
        ids_BC = np.full((self._batch, self._packer.capacity), self._pad, dtype=np.int64)
        supervised_BC = np.zeros(ids_BC.shape, dtype=bool)
        for number in range(self._batch * self._world_size):
            pieces = self._packer.next_row()
            row, rank = divmod(number, self._world_size)
            if rank == self._rank:
                self._fill(ids_BC[row], supervised_BC[row], pieces)
        targets_BC = np.where(supervised_BC, ids_BC, IGNORE)
        return Batch(
            torch.from_numpy(np.ascontiguousarray(ids_BC[:, :-1])),
            torch.from_numpy(np.ascontiguousarray(targets_BC[:, 1:])),
            self._packer.epoch,
        )

    def _fill(self, ids_C: np.ndarray, supervised_C: np.ndarray, pieces: list[Piece]) -> None:
        start = 0
        for document, tokens in pieces:
            ids, supervised = self.document(document)
            ids_C[start : start + tokens] = ids[:tokens]
            supervised_C[start : start + tokens] = supervised[:tokens]
            start += tokens

    def ledger(self) -> dict[str, int]:
        """Token and document accounting over all ranks since the start; see ``Packer.ledger``."""
        return self._packer.ledger()

    def state_dict(self) -> dict[str, Any]:
        """Exact position as JSON, equal on all ranks; under 64 KB for buffers of up to 5,000 documents."""
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
    """Rows of whole documents, each behind a BOS, best fit first, the last one cropped: no padding at all.

    ``tokens_dir`` is a tokens artifact. Ledger tokens include the BOS of each document.
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
    ) -> None:
        self._shards = TokenShards(tokens_dir, split)
        self._bos = bos
        order = DocumentOrder(self._shards.rows, seed=seed, shuffle=shuffle)
        packer = Packer(order, self._length, seq_len + 1, buffer=buffer, crop=True)
        identity = {
            "split": split,
            "documents": len(order),
            "tokens": self._shards.tokens,
            "seq_len": seq_len,
            "seed": seed,
            "shuffle": shuffle,
            "buffer": buffer,
        }
        super().__init__(packer, identity, batch, bos, rank, world_size)

    def _length(self, number: int) -> int:
        return 1 + self._shards.length(number)

    def document(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """BOS and the document's tokens; all may be targets."""
        ids = np.concatenate(([self._bos], self._shards.read(number)))
        return ids, np.ones(len(ids), dtype=bool)


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
        self._masked = masked
        self._rows = [row for row in rows if self._has_target(row, seq_len + 1)]
        self._dropped = len(rows) - len(self._rows)
        if not self._rows:
            raise DataError(
                f"none of {len(rows)} conversations has a token to train on within {seq_len} tokens",
                "use a longer sequence, or conversations with assistant messages",
            )
        order = DocumentOrder([len(self._rows)], seed=seed, block=len(self._rows))
        packer = Packer(order, self._length, seq_len + 1, buffer=buffer, crop=False)
        identity = {
            "documents": len(order),
            "tokens": sum(len(ids) for ids, _ in self._rows),
            "seq_len": seq_len,
            "seed": seed,
            "buffer": buffer,
        }
        super().__init__(packer, identity, batch, pad, rank, world_size)

    def _has_target(self, row: tuple[Sequence[int], Sequence[int]], capacity: int) -> bool:
        ids, mask = row
        return any(mask[1:capacity]) if self._masked else len(ids) > 1

    def _length(self, number: int) -> int:
        return len(self._rows[number][0])

    def document(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """A conversation's ids, and its mask (all true unless ``masked``)."""
        ids, mask = self._rows[number]
        supervised = np.array(mask, dtype=bool) if self._masked else np.ones(len(ids), dtype=bool)
        return np.array(ids, dtype=np.int64), supervised

    def ledger(self) -> dict[str, int]:
        """As ``Packer.ledger``, and the conversations left out because they have no target."""
        return {**super().ledger(), "dropped_documents": self._dropped}
