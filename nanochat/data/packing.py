"""Best-fit packing: an endless order of documents in, rows of pieces out. Lengths only, no tokens, no torch.

A row begins with the document that has waited longest; then it takes the largest one that still fits,
until nothing fits. So documents of all lengths leave at the pace at which they come, and the pieces of
a long one are spread over as many rows as the buffer holds documents. What fills the rest of a row is
said by ``crop``. An epoch is packed to its last document before the next one begins.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from nanochat.data.order import DocumentOrder

Crop = Literal["carry", "drop", "never"]
"""What is done where nothing fits any more: the shortest document is cut to fill the row exactly, and its
rest waits for a later row ("carry") or is lost ("drop"); or the row keeps an empty end ("never").

A document longer than a row is cut all the same: carried on, or with "drop" and "never" lost beyond it.
"""

AGE_BITS = 40  # a key is (row space a document needs, when it came), as one integer: quick to compare
AGE_MASK = (1 << AGE_BITS) - 1


class Piece(NamedTuple):
    """``tokens`` tokens of a row for a document, from its token ``start`` on; token 0 is its BOS.

    A piece that goes on (``start`` > 0) has a BOS of its own in front, one of its ``tokens``.
    """

    document: int
    start: int
    tokens: int


@dataclass
class Placed:
    """Running totals of what went into rows, and of what was cut off on the way."""

    rows: int = 0
    used_documents: int = 0
    used_tokens: int = 0
    cropped_documents: int = 0
    cropped_tokens: int = 0
    repeated_bos: int = 0


class Packer:
    """Packs the documents of ``order`` into rows of at most ``capacity`` tokens; its state is exact.

    ``lengths_of(documents)`` are their lengths in tokens, each at least 1. ``buffer`` documents wait to
    be chosen. Every row is full but with ``crop="never"``.
    """

    def __init__(
        self,
        order: DocumentOrder,
        lengths_of: Callable[[np.ndarray], np.ndarray],
        capacity: int,
        *,
        buffer: int,
        crop: Crop,
    ) -> None:
        assert capacity > 1 or crop != "carry", "a row of one BOS carries nothing on"
        self.order, self.lengths_of, self.capacity = order, lengths_of, capacity
        self.buffer, self.crop = buffer, crop
        self._seen_documents = self._seen_tokens = 0
        self._placed = Placed()
        self._empty_buffer()
        self._enter(epoch=0, cursor=0)

    def _empty_buffer(self) -> None:
        self._keys: list[int] = []  # of those that wait, sorted
        self._waiting: dict[int, tuple[int, int, int, int]] = {}  # age -> key, document, start, length
        self._next_age = self._oldest = 0

    def _enter(self, epoch: int, cursor: int) -> None:
        self.epoch, self._cursor = epoch, cursor
        self._blocks = self.order.epoch(epoch, cursor)
        self._coming: list[tuple[int, int]] = []  # document, length; the next one is the last

    def next_row(self) -> list[Piece]:
        """The pieces of the next row, in order; never empty."""
        self._refill()
        row = [self._take(self._index_of_oldest(), self.capacity)]
        space = self.capacity - row[0].tokens
        while space:
            self._refill()
            fits = bisect_left(self._keys, (space + 1) << AGE_BITS)
            if not fits and self.crop == "never":
                break
            row.append(self._take(max(fits - 1, 0), space))
            space -= row[-1].tokens
        self._placed.rows += 1
        return row

    def _refill(self) -> None:
        while len(self._keys) < self.buffer:
            if not self._coming:
                if self._cursor == len(self.order):
                    if self._keys:
                        return
                    self._enter(self.epoch + 1, 0)
                documents = next(self._blocks)[::-1]
                self._coming = list(zip(documents.tolist(), self.lengths_of(documents).tolist(), strict=True))
            document, length = self._coming.pop()
            self._cursor += 1
            self._seen_documents += 1
            self._seen_tokens += length
            self._wait(document, 0, length)

    def _wait(self, document: int, start: int, length: int) -> None:
        needed = min(length - start + (start > 0), self.capacity)
        key = needed << AGE_BITS | self._next_age
        insort(self._keys, key)
        self._waiting[self._next_age] = key, document, start, length
        self._next_age += 1

    def _index_of_oldest(self) -> int:
        while self._oldest not in self._waiting:
            self._oldest += 1
        return bisect_left(self._keys, self._waiting[self._oldest][0])

    def _take(self, index: int, space: int) -> Piece:
        key, document, start, length = self._waiting.pop(self._keys.pop(index) & AGE_MASK)
        tokens = min(key >> AGE_BITS, space)
        end = start + tokens - (start > 0)
        placed = self._placed
        placed.used_tokens += end - start
        placed.repeated_bos += start > 0
        if end == length:
            placed.used_documents += 1
        elif self.crop == "carry":
            self._wait(document, end, length)
        else:
            placed.cropped_documents += 1
            placed.cropped_tokens += length - end
        return Piece(document, start, tokens)

    def ledger(self, state: dict[str, Any] | None = None) -> dict[str, int]:
        """Documents and tokens at ``state`` (now): used (to the end) + cropped + left (waiting) == seen.

        Row space is used + ``repeated_bos`` (in front of pieces that go on) + ``empty``.
        """
        state = state or self.state_dict()
        left = self._lengths(state["waiting"]).sum() - sum(state["starts"])
        placed = state["placed"]
        taken = placed["used_tokens"] + placed["repeated_bos"]
        return {
            "seen_documents": state["seen_documents"],
            "seen_tokens": state["seen_tokens"],
            **placed,
            "left_documents": len(state["waiting"]),
            "left_tokens": int(left),
            "empty_tokens": placed["rows"] * self.capacity - taken,
        }

    def _lengths(self, documents: list[int]) -> np.ndarray:
        return self.lengths_of(np.array(documents, np.int64))

    def state_dict(self) -> dict[str, Any]:
        """JSON-able position: 10 to 20 bytes a waiting document; their tokens are read again on resume."""
        waiting = self._waiting.values()
        return {
            "epoch": self.epoch,
            "cursor": self._cursor,
            "seen_documents": self._seen_documents,
            "seen_tokens": self._seen_tokens,
            "placed": asdict(self._placed),
            "waiting": [document for _, document, _, _ in waiting],
            "starts": [start for _, _, start, _ in waiting],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``state`` was taken, on the same order, lengths, capacity and ``crop``."""
        self._seen_documents, self._seen_tokens = state["seen_documents"], state["seen_tokens"]
        self._placed = Placed(**state["placed"])
        self._empty_buffer()
        lengths = self._lengths(state["waiting"]).tolist()
        for document, start, length in zip(state["waiting"], state["starts"], lengths, strict=True):
            self._wait(document, start, length)
        self._enter(state["epoch"], state["cursor"])
