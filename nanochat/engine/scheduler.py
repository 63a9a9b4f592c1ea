"""Many requests at once to one model: a queue before it and one thread that owns it (continuous batching).

A request waits until a slot of the cache is free, joins the rows that are being decoded, and leaves as soon
as it ends. Cancelled requests and those past their deadline leave between two steps; a step reads at most a
chunk of a prompt and decodes one token.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic
from types import TracebackType

import torch

from artifacts.errors import ResourceError
from nanochat.engine.batch import Batch, tell
from nanochat.engine.calculator import calculate
from nanochat.engine.generate import Decoder
from nanochat.engine.request import Request
from nanochat.engine.row import Listener, Row
from nanochat.engine.turn import Calculator
from nanochat.tokenizer.tokenizer import Tokenizer

CHUNK = 256  # prompt tokens read at a time


class QueueFull(ResourceError):
    """As many requests wait as may; ``retry_after_s``: when one of them will probably have been admitted."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} requests wait already", f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Closed(ResourceError):
    """The scheduler takes no more requests."""

    def __init__(self) -> None:
        super().__init__("this model is being closed", "try again later")


@dataclass(frozen=True)
class SchedulerStats:
    """Rows running of ``slots``, requests waiting, and totals since the start."""

    slots: int
    running: int
    waiting: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    steps: int


class Generation:
    """A submitted request."""

    def __init__(self, row: Row, changed: threading.Condition) -> None:
        self._row, self._changed = row, changed

    def cancel(self) -> None:
        """End it before the next step, from any thread; without effect once it has ended."""
        with self._changed:
            self._row.cancelled = True
            self._changed.notify()


class Scheduler:
    """Answers requests with ``model``, at most ``slots`` at once; as many as ``queue`` wait.

    ``chunk``: prompt tokens that are read at a time, so how long a long prompt may delay the others.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        *,
        slots: int = 16,
        queue: int = 64,
        calculator: Calculator = calculate,
        chunk: int = CHUNK,
    ) -> None:
        assert slots >= 1, slots
        assert queue >= 0, queue
        assert chunk >= 1, chunk
        self.context_tokens = model.config.seq_len
        self._tokenizer, self._calculator, self._queue = tokenizer, calculator, queue
        self._batch = Batch(model, slots, chunk)
        self._waiting: deque[Row] = deque()
        self._closes_at: float | None = None
        self._changed = threading.Condition()  # guards the queue and the closing
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def submit(self, request: Request, listener: Listener) -> Generation:
        """Queue ``request``. ``listener`` gets its events from the scheduler's thread, and must not block.

        Raises UsageError for a request that cannot be answered, QueueFull, and Closed after ``close``.
        """
        row = Row(request, listener, self._tokenizer, self._calculator, self.context_tokens)
        with self._changed:
            if self._closes_at is not None:
                raise Closed
            if len(self._waiting) >= self._queue + self._free:
                raise QueueFull(len(self._waiting), self._retry_after_s())
            self._waiting.append(row)
            self._changed.notify()
        return Generation(row, self._changed)

    def close(self, drain_s: float = 0) -> None:
        """Take no more requests; those that have not ended within ``drain_s`` seconds are cancelled."""
        with self._changed:
            at = monotonic() + drain_s
            self._closes_at = at if self._closes_at is None else min(at, self._closes_at)
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def stats(self) -> SchedulerStats:
        """What it does now, and has done."""
        batch, totals = self._batch, self._batch.totals
        with self._changed:
            return SchedulerStats(
                batch.slots.count, len(batch.rows), len(self._waiting),
                totals.prompt_tokens, totals.cached_tokens, totals.generated_tokens, totals.steps,
            )  # fmt: skip

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _free(self) -> int:
        return self._batch.slots.count - len(self._batch.rows)

    def _retry_after_s(self) -> int:
        rounds = (len(self._waiting) + 1) / self._batch.slots.count
        return max(1, math.ceil(self._batch.mean_s * rounds))

    def _run(self) -> None:
        with torch.no_grad():  # not inference_mode: what the model caches here must stay usable in training
            while self._wait_for_work():
                try:
                    self._end_what_is_over()
                    self._batch.step(self._next)
                except Exception as error:  # a fault of ours; nobody may wait for an answer that never comes
                    self._batch.fail(list(self._batch.rows.items()), error)

    def _wait_for_work(self) -> bool:
        """Sleep until there is a request; False when there will be none."""
        with self._changed:
            while not (self._waiting or self._batch.rows):
                if self._closes_at is not None:
                    return False
                self._changed.wait()
            return True

    def _end_what_is_over(self) -> None:
        """End what is cancelled or past its deadline, or all, when there is no time left."""
        with self._changed:
            late = self._closes_at is not None and monotonic() >= self._closes_at
            over = [(row, "cancelled" if late else row.reason) for row in self._waiting]
            self._waiting = deque(row for row, reason in over if reason is None)
        for row, reason in over:
            if reason is not None:
                tell(lambda row=row, reason=reason: row.finish(reason))
        self._batch.end(lambda row: "cancelled" if late else row.reason)

    def _next(self) -> Row | None:
        with self._changed:
            return self._waiting.popleft() if self._waiting else None
