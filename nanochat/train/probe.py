"""How many rows of one pass fit into a GPU's memory: tried before the first step, so that no later one dies.

One pass of full rows runs with all that a step has in memory: gradients of passes before, room for the
optimizer's state, which is not there yet, and some that stays free. Where it does not fit, fewer rows are
tried, and the step gets more passes. Weights, random states and the loader's position stay as they are.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from artifacts.errors import ResourceError
from nanochat.data.loader import Batch
from nanochat.model.gpt import GPT
from nanochat.model.memory import Batch as Pass
from nanochat.model.memory import training_memory
from nanochat.train.setup import all_sum

SPARE = 0.05  # of the GPU's memory: what the allocator loses to fragments, and buffers of collectives


class Loader(Protocol):
    """A source of batches with an exact position."""

    def next(self) -> Batch: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> object: ...


class Rows(NamedTuple):
    """Some rows of a batch, for one pass."""

    inputs_BT: Tensor
    targets_BT: Tensor


class FittingLoader:
    """The batches of ``loader``, of ``most`` rows, and how many of these a pass takes.

    ``find`` (None: all of them fit) is asked for that number, given the most to try, once in a run: then it
    is part of the state, and a resumed run of as many ``ranks`` cuts its batches as before.
    """

    def __init__(self, loader: Loader, most: int, find: Callable[[int], int] | None, ranks: int = 1) -> None:
        self._loader, self._most, self._find, self._ranks = loader, most, find, ranks
        self._rows: int | None = None

    def next(self, count: int) -> list[Batch]:
        """The next ``count`` batches, whole."""
        if self._rows is None and self._find:
            self._rows = self._find(self._most)
        return [self._loader.next() for _ in range(count)]

    def cut(self, batches: list[Batch]) -> list[Rows]:
        """The same rows in passes."""
        rows = self._rows or self._most
        return [
            Rows(*pair)
            for batch in batches
            for pair in zip(batch.inputs_BT.split(rows), batch.targets_BT.split(rows), strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """The loader's, and the rows of a pass if they had to be found."""
        state = self._loader.state_dict()
        return state if self._rows is None else {**state, "rows": [self._rows, self._ranks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        rows, ranks = state.get("rows", (None, self._ranks))
        self._rows = (
            rows if ranks == self._ranks else None
        )  # each holds another share of the optimizer's state
        self._loader.load_state_dict({name: value for name, value in state.items() if name != "rows"})


def needs_probe(device: torch.device) -> bool:
    """Whether memory is known to run out by an error; a process on a CPU that takes too much is killed."""
    return device.type == "cuda"


def rows_that_fit(most: int, device: torch.device, try_rows: Callable[[int], None]) -> int:
    """The most rows of a pass that fit on every rank: ``most`` or a divisor, by halving; 0 if not even one.

    ``try_rows`` makes a pass, and raises torch.OutOfMemoryError if it has too many rows. A collective call
    when there are several ranks: all try the same.
    """
    rows = most
    while rows and not _fits_everywhere(try_rows, rows, device):
        rows = max((fewer for fewer in range(1, rows // 2 + 1) if most % fewer == 0), default=0)
    return rows


def probe(stage: str, model: GPT, most: int, passes: int, ranks: int) -> int:
    """``rows_that_fit`` by real passes; ``passes`` of ``most`` rows are a step. ResourceError if none do."""

    def size(rows: int) -> Pass:
        return Pass(rows, passes * most // rows, ranks, model.compute_dtype.itemsize, model.checkpointing)

    rows = rows_that_fit(most, model.device, lambda rows: try_pass(model, size(rows)))
    if not rows:
        needed = training_memory(model.config, size(1)).peak
        raise ResourceError(
            f"{stage}: one row of {model.config.seq_len} tokens does not fit into the GPU's memory:"
            f" training needs about {needed:,} bytes",
            f"set {stage}.activation_checkpointing=true, a smaller seq_len or depth, or a larger nproc",
        )
    return rows


def try_pass(model: GPT, size: Pass) -> None:
    """One pass forward and backward of full rows, every token a target, beside what else a step needs.

    torch.OutOfMemoryError if that is too much; afterwards there are no gradients, and all is as it was.
    """
    memory, device, config = training_memory(model.config, size), model.device, model.config
    ids_BT = torch.arange(size.rows * config.seq_len, device=device).view(size.rows, config.seq_len)
    ids_BT %= config.vocab_size
    try:
        held = _hold(max(0, memory.kept - _kept_already(model)) + _spare_bytes(device), device)
        if size.passes > 1:
            for param in model.parameters():
                param.grad = torch.zeros_like(param)
        model.loss(ids_BT, ids_BT).backward()
        _hold(memory.update, device)
        del held
    finally:
        model.zero_grad(set_to_none=True)


def _hold(size: int, device: torch.device) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, device=device)


def _kept_already(model: GPT) -> int:
    """Weights, and on a GPU the optimizer's state if a run was resumed with it."""
    if model.device.type == "cuda":
        return torch.cuda.memory_allocated(model.device)
    return sum(param.nbytes for param in model.parameters())


def _spare_bytes(device: torch.device) -> int:
    return int(SPARE * torch.cuda.mem_get_info(device)[1]) if device.type == "cuda" else 0


def _fits_everywhere(try_rows: Callable[[int], None], rows: int, device: torch.device) -> bool:
    try:
        try_rows(rows)
    except torch.OutOfMemoryError:
        fits = False
    else:
        fits = True
    gc.collect()  # after the error, which holds the frames that hold the tensors
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return all_sum(float(not fits), device) == 0
