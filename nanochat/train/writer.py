"""Saves checkpoints while training goes on: the tensors are copied, and a thread writes the copies.

What a checkpoint holds is the same, to the last byte, as if training had waited. A save promises nothing
before its write has ended: a kill goes back to the checkpoint before. One write is under way at a time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from nanochat.train.checkpoint import save_checkpoint
from nanochat.train.memory import free_memory_bytes
from nanochat.train.state import Tensors

logger = logging.getLogger(__name__)


class CheckpointWriter:
    """Writes the checkpoints of one run into ``folder``: the ``keep`` newest and the best are kept.

    Used as a context, it waits at its end for the write under way, except where Ctrl-C asked twice to end.
    """

    def __init__(
        self, folder: Path, keep: int = 2, *, free_bytes: Callable[[], int] = free_memory_bytes
    ) -> None:
        self._folder, self._keep, self._free_bytes = folder, keep, free_bytes
        self._buffers: Tensors = {}
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._step: int | None = None
        self._said = False

    def save(self, step: int, tensors: Tensors, state: dict[str, Any], best: int | None = None) -> None:
        """Begin to write a checkpoint; ``tensors`` and ``state`` may change as soon as this returns.

        Waits for the write before it. Raises what that one failed with; where free memory does not hold
        a copy, this one is written before it returns, and raises what ``save_checkpoint`` does.
        """
        if step == self._step and self._error is None:
            return  # it is there, or under way
        self.wait()
        if self._has_room(tensors):
            copies, state, copied = self._copies(tensors), deepcopy(state), _mark(tensors)

            def write() -> None:
                try:
                    if copied is not None:
                        copied.synchronize()
                    save_checkpoint(self._folder, step, copies, state, self._keep, best)
                except BaseException as error:
                    self._error = error

            self._thread = threading.Thread(target=write, name="checkpoint", daemon=True)
            self._thread.start()
        else:
            save_checkpoint(self._folder, step, tensors, state, self._keep, best)
        self._step = step

    def check(self) -> None:
        """Raise what a write that has ended failed with, once; never waits."""
        if self._error is not None:
            error, self._error, self._step = self._error, None, None
            raise error

    def wait(self) -> None:
        """Until the write under way is durable. Raises what it failed with."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is KeyboardInterrupt:
            return
        try:
            self.wait()
        except Exception as failed:
            if kind is None:
                raise
            logger.error("the last checkpoint was not written: %s", failed)

    def _has_room(self, tensors: Tensors) -> bool:
        """Whether the copy fits, and leaves as much again free."""
        missing = sum(tensor.nbytes for name, tensor in tensors.items() if not self._fits(name, tensor))
        if not missing or 2 * missing <= self._free_bytes():
            return True
        if not self._said:
            logger.warning("training waits for checkpoints: no memory for a copy of %d MB", missing >> 20)
            self._said = True
        return False

    def _fits(self, name: str, tensor: torch.Tensor) -> bool:
        buffer = self._buffers.get(name)
        return buffer is not None and (buffer.shape, buffer.dtype) == (tensor.shape, tensor.dtype)

    def _copies(self, tensors: Tensors) -> Tensors:
        """Host copies in buffers that are used again; those from a GPU are still on their way."""
        for name, tensor in tensors.items():
            pinned = tensor.is_cuda
            if not self._fits(name, tensor):
                self._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
            self._buffers[name].copy_(tensor.detach(), non_blocking=pinned)
        return {name: self._buffers[name] for name in tensors}


def _mark(tensors: Tensors) -> torch.cuda.Event | None:
    """What a thread waits for until copies begun before are complete; None if none was on a GPU.

    The optimizer's next step comes after them on the same stream, so training itself does not wait.
    """
    if not any(tensor.is_cuda for tensor in tensors.values()):
        return None
    event = torch.cuda.Event()
    event.record()
    return event
