"""Best-fit packing: an endless order of documents in, rows of pieces out. Lengths only, no tokens, no torch.

A row takes the largest buffered document that still fits, until nothing fits. Then either the shortest
one is cropped to fill the row exactly (pretraining), or the rest of the row stays empty (conversations).
An epoch is packed to its last document before the next one begins, so no document waits for ever.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from nanochat.data.order import DocumentOrder


class Piece(NamedTuple):
    """The first ``tokens`` tokens of a document."""

    document: int
    tokens: int


@dataclass
class Placed:
    """Running totals of what went into rows, and of what was cut off on the way."""

    rows: int = 0
    used_documents: int = 0
    used_tokens: int = 0
    cropped_documents: int = 0
    cropped_tokens: int = 0


class Packer:
    """Packs the documents of ``order`` into rows of at most ``capacity`` tokens; its state is exact.

    ``length_of(document)`` is its length in tokens, at least 1. With ``crop`` every row is full, and a
    document longer than a row waits until it is the shortest left. Without, documents stay whole but for
    those longer than a row, which are truncated to it.
    """

    def __init__(
        self,
        order: DocumentOrder,
        length_of: Callable[[int], int],
        capacity: int,
        *,
        buffer: int,
        crop: bool,
    ) -> None:
        self.order, self.length_of, self.capacity = order, length_of, capacity
        self.buffer, self.crop = buffer, crop
        self.epoch = self._cursor = self._seen_documents = self._seen_tokens = 0
        self._placed = Placed()
        self._waiting: list[tuple[int, int]] = []  # (tokens it needs, document), sorted
        self._documents = order.epoch(0)

    def next_row(self) -> list[Piece]:
        """The pieces of the next row, in order; never empty."""
        row: list[Piece] = []
        space = self.capacity
        while space:
            self._refill()
            fits = bisect_left(self._waiting, (space + 1,))
            if not fits and not self.crop:
                break
            needed, document = self._waiting.pop(max(fits - 1, 0))
            piece = Piece(document, min(needed, space))
            self._account(piece)
            row.append(piece)
            space -= piece.tokens
        self._placed.rows += 1
        return row

    def _refill(self) -> None:
        while len(self._waiting) < self.buffer:
            if self._cursor == len(self.order):
                if self._waiting:
                    return
                self.epoch, self._cursor = self.epoch + 1, 0
                self._documents = self.order.epoch(self.epoch)
            document = next(self._documents)
            self._cursor += 1
            self._seen_documents += 1
            self._seen_tokens += self.length_of(document)
            self._wait(document)

    def _wait(self, document: int) -> None:
        length = self.length_of(document)
        insort(self._waiting, (length if self.crop else min(length, self.capacity), document))

    def _account(self, piece: Piece) -> None:
        lost = self.length_of(piece.document) - piece.tokens
        self._placed.used_tokens += piece.tokens
        self._placed.cropped_tokens += lost
        self._placed.cropped_documents += lost > 0
        self._placed.used_documents += lost == 0

    def ledger(self) -> dict[str, int]:
        """Documents and tokens: used (whole) + cropped + left (buffered) == seen, and ``empty`` row space."""
        left = sum(self.length_of(document) for _, document in self._waiting)
        return {
            "seen_documents": self._seen_documents,
            "seen_tokens": self._seen_tokens,
            **asdict(self._placed),
            "left_documents": len(self._waiting),
            "left_tokens": left,
            "empty_tokens": self._placed.rows * self.capacity - self._placed.used_tokens,
        }

    def state_dict(self) -> dict[str, Any]:
        """JSON-able position: about 10 bytes a buffered document; their tokens are read again on resume."""
        return {
            "epoch": self.epoch,
            "cursor": self._cursor,
            "seen_documents": self._seen_documents,
            "seen_tokens": self._seen_tokens,
            "placed": asdict(self._placed),
            "waiting": [document for _, document in self._waiting],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``state`` was taken, on the same order, lengths and capacity."""
        self.epoch, self._cursor = state["epoch"], state["cursor"]
        self._seen_documents, self._seen_tokens = state["seen_documents"], state["seen_tokens"]
        self._placed = Placed(**state["placed"])
        self._waiting = []
        for document in state["waiting"]:
            self._wait(document)
        self._documents = self.order.epoch(self.epoch, self._cursor)
