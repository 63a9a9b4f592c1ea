"""The rows that a model works on now: prompts are read in chunks, between steps that decode all rows at once.

Shapes: N rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nanochat.engine.generate import Decoder
from nanochat.engine.request import FinishReason
from nanochat.engine.row import Row
from nanochat.engine.sampling import choose_each
from nanochat.engine.slots import Slots

logger = logging.getLogger(__name__)

NextRow = Callable[[], Row | None]


@dataclass
class Totals:
    """Since the start: tokens of admitted prompts, those of them that were cached, of answers; and steps."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0


class Batch:
    """Up to ``slots`` rows. Used by one thread; no method raises for what a model or a listener does."""

    def __init__(self, model: Decoder, slots: int, chunk: int) -> None:
        self._model, self._chunk = model, chunk
        cache = model.new_cache(slots, model.config.seq_len)
        self.slots = Slots(cache, slots, model.device)
        self.rows: dict[int, Row] = {}  # by slot, in the order of their admission
        self.totals = Totals()
        self.mean_s = 0.0  # how long a row runs, lately

    def step(self, next_row: NextRow) -> None:
        """Read a chunk of prompts and forced tokens, then one more token in each row that waits for it.

        ``next_row`` gives the next request, once one can be read, or None. How a prompt is divided depends
        on itself alone.
        """
        self.totals.steps += 1
        budget = self._chunk
        for slot, row in self._to_read(next_row):
            size = min(len(row.unread), self._chunk)
            if not row.turn.ids:  # the few tokens that a tool forces do not wait
                if size > budget:
                    break
                budget -= size
            self._prefill(slot, row, size)
        self._decode()

    def end(self, reason_of: Callable[[Row], FinishReason | None]) -> None:
        """Retire the rows for which there is a reason."""
        for slot, row in list(self.rows.items()):
            if (reason := reason_of(row)) is not None:
                self._retire(slot, row, reason)

    def fail(self, rows: Sequence[tuple[int, Row]], error: Exception) -> None:
        """Retire rows that an error has ended; what their slots hold is forgotten."""
        line = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        logger.error("%d requests failed: %s", len(rows), line, exc_info=error)
        for slot, row in rows:
            if self.rows.pop(slot, None) is not None:
                self.slots.release(slot, forget=True)
            tell(lambda row=row: row.fail(f"the engine failed: {line}"))

    def _to_read(self, next_row: NextRow) -> Iterator[tuple[int, Row]]:
        """Rows with more to read than a step of decoding does, each until it is read; then new ones."""
        for slot, row in list(self.rows.items()):
            while len(row.unread) > 1:
                yield slot, row
        while self.slots.free and (new := next_row()) is not None:
            slot = self._admit(new)
            while len(new.unread) > 1:
                yield slot, new

    def _admit(self, row: Row) -> int:
        prompt = row.request.prompt
        try:
            slot, cached = self.slots.take(prompt)
        except Exception as error:
            self.fail([(-1, row)], error)
            return -1
        self.rows[slot] = row
        row.admit(cached)
        self.totals.prompt_tokens += len(prompt)
        self.totals.cached_tokens += cached
        return slot

    def _prefill(self, slot: int, row: Row, size: int) -> None:
        tokens = row.unread[:size]
        try:
            logits_1V = self._model.prefill(self._tensor([tokens]), self.slots.cache, self._tensor([slot]))
        except Exception as error:  # of any kind: the other rows must go on
            self.fail([(slot, row)], error)
            return
        self._was_read(slot, row, size)
        if not row.unread:
            self._continue([(slot, row)], logits_1V)

    def _decode(self) -> None:
        rows = [(slot, row) for slot, row in self.rows.items() if len(row.unread) == 1]
        if not rows:
            return
        tokens_N = self._tensor([row.unread[0] for _, row in rows])
        try:
            logits_NV = self._model.decode(
                tokens_N, self.slots.cache, self._tensor([slot for slot, _ in rows])
            )
        except Exception as error:
            self.fail(rows, error)
            return
        for slot, row in rows:
            self._was_read(slot, row, 1)
        self._continue(rows, logits_NV)

    def _was_read(self, slot: int, row: Row, size: int) -> None:
        self.slots.tokens[slot] += row.unread[:size]
        del row.unread[:size]

    def _continue(self, rows: list[tuple[int, Row]], logits_NV: Tensor) -> None:
        """Choose the next token of each row and let it go on, or retire it."""
        sane_N = logits_NV.sum(dim=-1).isfinite().tolist()
        if not all(sane_N):
            insane = [pair for pair, sane in zip(rows, sane_N, strict=True) if not sane]
            self.fail(insane, ArithmeticError("what the model puts out is not a number"))
            rows = [pair for pair, sane in zip(rows, sane_N, strict=True) if sane]
            logits_NV = logits_NV[torch.tensor(sane_N, device=logits_NV.device)]
        for (slot, row), token, logits_V in zip(rows, self._choose(rows, logits_NV), logits_NV, strict=True):
            before = len(row.turn.ids)
            try:
                row.accept(token, logits_V)
            except Exception as error:  # of the listener, mostly
                self.fail([(slot, row)], error)
                continue
            self.totals.generated_tokens += len(row.turn.ids) - before
            if (reason := row.reason) is not None:
                self._retire(slot, row, reason)

    def _choose(self, rows: list[tuple[int, Row]], logits_NV: Tensor) -> list[int]:
        edited_NV = logits_NV.clone() if any(row.edits for _, row in rows) else logits_NV
        for (_, row), logits_V in zip(rows, edited_NV, strict=True):
            if row.edits:
                row.edit(logits_V)
        samplings = [row.request.sampling for _, row in rows]
        return choose_each(edited_NV, samplings, [row.draw() for _, row in rows])

    def _retire(self, slot: int, row: Row, reason: FinishReason) -> None:
        del self.rows[slot]
        self.slots.release(slot)
        self.mean_s += (row.running_s - self.mean_s) / 8
        tell(lambda: row.finish(reason))

    def _tensor(self, values: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._model.device)


def tell(say: Callable[[], None]) -> None:
    """Let a row speak to its listener, for the last time: a fault of the listener's ends here."""
    try:
        say()
    except Exception:
        logger.exception("the listener of a request failed")
