"""Batches made ahead of time: a loader in, the same batches out, on the device, at the same positions.

One thread makes the next batches while the model works. Its position is that of the batches that were
handed out, so a checkpoint never knows of those that wait. On CUDA the thread writes into pinned memory,
from which copies are queued on the GPU without anybody waiting for them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

import torch

from nanochat.data.loader import Batch, PackedLoader

AHEAD = 2


class Event(Protocol):
    """What of ``torch.cuda.Event`` is needed here."""

    def record(self) -> None: ...
    def synchronize(self) -> None: ...


class Staging:
    """Pinned buffers in turn. One is not written again before its last copy to ``device`` is done.

    Call ``buffer(n)`` and fill it, then ``send(n)``; of the next ``AHEAD`` numbers each has a buffer of
    its own. ``buffer`` may be called on another thread than ``send``.
    """

    def __init__(
        self, shape: tuple[int, int], device: torch.device, *,
        new_event: Callable[[], Event] = torch.cuda.Event, pinned: bool = True,
    ) -> None:  # fmt: skip
        self._device = device
        self._buffers = [
            (torch.empty(shape, dtype=torch.int64, pin_memory=pinned),
             torch.empty(shape, dtype=torch.int64, pin_memory=pinned))
            for _ in range(AHEAD)
        ]  # fmt: skip
        self._copied = [new_event() for _ in range(AHEAD)]

    def buffer(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets to fill; waits for the copy that still reads them."""
        self._copied[number % AHEAD].synchronize()
        return self._buffers[number % AHEAD]

    def send(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """New tensors on the device; the copy is queued on the current stream, and nobody waits for it."""
        inputs, targets = (self._copy(tensor) for tensor in self._buffers[number % AHEAD])
        self._copied[number % AHEAD].record()
        return inputs, targets

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._device, non_blocking=True)


class Prefetcher:
    """``next``, ``state_dict``, ``load_state_dict`` and ``ledger`` of ``loader``, which it takes over.

    The thread starts with the first ``next``; ``close`` ends it. An error of the thread is raised by the
    ``next`` whose batch it concerns, and the one after tries again. A forked child has a thread of its own.
    """

    def __init__(self, loader: PackedLoader, device: torch.device, staging: Staging | None = None) -> None:
        if staging is None and device.type == "cuda":
            staging = Staging(loader.shape, device)
        self._loader, self._staging = loader, staging
        self._state = loader.state_dict()
        self._ahead: deque[tuple[int, Future[tuple[Batch, dict[str, Any]]]]] = deque()
        self._executor: ThreadPoolExecutor | None = None
        self._submitted, self._process = 0, os.getpid()

    def next(self) -> Batch:
        """The next batch of the loader, its tensors on the device."""
        if self._process != os.getpid():
            self._ahead.clear()
            self._executor, self._process = None, os.getpid()
            self._loader.load_state_dict(self._state)
        try:
            self._submit()
            number, future = self._ahead.popleft()
            batch, state = future.result()
            if self._staging:
                inputs, targets = self._staging.send(number)
                batch = replace(batch, inputs_BT=inputs, targets_BT=targets)
            self._submit()
        except BaseException:
            self.close()
            raise
        self._state = state
        return batch

    def _submit(self) -> None:
        self._executor = self._executor or ThreadPoolExecutor(1, "prefetch")
        while len(self._ahead) < AHEAD:
            self._ahead.append((self._submitted, self._executor.submit(self._make, self._submitted)))
            self._submitted += 1

    def _make(self, number: int) -> tuple[Batch, dict[str, Any]]:
        batch = self._loader.next(self._staging.buffer(number) if self._staging else None)
        return batch, self._loader.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """The loader's position behind the last batch that ``next`` returned."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``. DataError, and all stays as it was, if it is of other data."""
        self.close()
        self._loader.load_state_dict(state)
        self._state = state

    def ledger(self) -> dict[str, int]:
        """The loader's accounting of the batches that ``next`` returned."""
        return self._loader.ledger(self._state)

    def close(self) -> None:
        """End the thread; what it made ahead is forgotten, the position stays. ``next`` starts it again."""
        if self._executor:
            self._executor.shutdown(cancel_futures=True)
            self._loader.load_state_dict(self._state)
        self._executor = None
        self._ahead.clear()
