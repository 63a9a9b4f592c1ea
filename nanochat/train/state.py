"""Everything of a training run that must survive a kill: gathered for a checkpoint, put back bit for bit.

Weights and optimizer tensors become named tensors; structure, numbers, loader position and random states
become JSON. No pickle: what cannot be written as one or the other is refused.
"""

from __future__ import annotations

import logging
import random
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from artifacts.errors import DataError

logger = logging.getLogger(__name__)

SCHEMA = 1
Tensors = dict[str, torch.Tensor]


class Stateful(Protocol):
    """Something with a state that can be taken and given back: an optimizer, a loader."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> object: ...


@dataclass
class TrainState:
    """The live objects of a run; ``counters`` is the loop's own dict of JSON values (step, tokens, …)."""

    model: nn.Module
    optimizer: Stateful
    loader: Stateful
    counters: dict[str, Any]

    def capture(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors and JSON for ``save_checkpoint``; the tensors are live, so write before the next step.

        Every rank has to call this, as random states differ between ranks; rank 0 writes the result.
        """
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        state = {
            "schema": SCHEMA,
            "optimizer": flatten(self.optimizer.state_dict(), "optimizer", tensors),
            "loader": self.loader.state_dict(),
            "counters": dict(self.counters),
            "random": _of_every_rank(random_state()),
        }
        return tensors, state

    def restore(self, tensors: Tensors, state: dict[str, Any]) -> None:
        """Put back what ``capture`` took. DataError if it does not belong to this model, optimizer or data.

        With another number of ranks the random states are left as they are, which is said in a warning.
        """
        if state.get("schema") != SCHEMA:
            raise DataError(f"training state has schema {state.get('schema')!r}, expected {SCHEMA}")
        weights = {
            name.removeprefix("model."): tensor
            for name, tensor in tensors.items()
            if name.startswith("model.")
        }
        optimizer = unflatten(state["optimizer"], tensors)
        try:
            self.model.load_state_dict(weights)
            self.optimizer.load_state_dict(optimizer)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"the checkpoint is of another model or optimizer: {reason}") from error
        self.loader.load_state_dict(state["loader"])
        self.counters.clear()
        self.counters.update(state["counters"])
        rank, world_size = _rank()
        if len(state["random"]) == world_size:
            set_random_state(state["random"][rank])
        else:
            logger.warning("random states of %d ranks do not fit %d ranks", len(state["random"]), world_size)


def flatten(tree: Any, name: str, tensors: Tensors) -> Any:
    """``tree`` as JSON that keeps its types; its tensors go into ``tensors`` under dotted names.

    TypeError for anything but dict, list, tuple, tensor, str, int, float, bool and None.
    """
    match tree:
        case torch.Tensor():
            assert name not in tensors, name
            tensors[name] = tree
            return {"tensor": name}
        case dict():
            return {"dict": [[key, flatten(item, f"{name}.{key}", tensors)] for key, item in tree.items()]}
        case list() | tuple():
            items = [flatten(item, f"{name}.{index}", tensors) for index, item in enumerate(tree)]
            return {"list" if isinstance(tree, list) else "tuple": items}
        case None | bool() | int() | float() | str():
            return tree
    raise TypeError(f"{name} is a {type(tree).__name__}: it has no place in a checkpoint")


def unflatten(json: Any, tensors: Tensors) -> Any:
    """The tree that ``flatten`` took apart, with copies of its tensors. DataError if one is missing."""
    match json:
        case {"tensor": name}:
            if name not in tensors:
                raise DataError(f"the checkpoint lacks the tensor {name}")
            return tensors[name].clone()
        case {"dict": items}:
            return {key: unflatten(item, tensors) for key, item in items}
        case {"list": items}:
            return [unflatten(item, tensors) for item in items]
        case {"tuple": items}:
            return tuple(unflatten(item, tensors) for item in items)
    return json


def random_state() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's global generators (and this rank's CUDA one) as JSON."""
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    key = numpy_state["state"]["key"].tolist()
    state = {
        "python": random.getstate(),
        "numpy": {**numpy_state, "state": {**numpy_state["state"], "key": key}},
        "torch": _encode(torch.get_rng_state()),
    }
    if torch.cuda.is_available():
        state["cuda"] = _encode(torch.cuda.get_rng_state())
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Continue the random sequences of ``random_state``."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    inner = state["numpy"]["state"]
    key = np.array(inner["key"], dtype=np.uint32)
    np.random.set_state({**state["numpy"], "state": {**inner, "key": key}})
    torch.set_rng_state(_decode(state["torch"]))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(_decode(state["cuda"]))


def _encode(generator: torch.Tensor) -> str:
    return b64encode(generator.numpy().tobytes()).decode("ascii")


def _decode(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(b64decode(text)), dtype=torch.uint8)


def _rank() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _of_every_rank(value: dict[str, Any]) -> list[dict[str, Any]]:
    _, world_size = _rank()
    values = [value] * world_size
    if world_size > 1:
        dist.all_gather_object(values, value)
    return values
