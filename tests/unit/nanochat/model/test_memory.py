"""Every part of the memory model against what real steps on the CPU hold: tensors, byte for byte."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nanochat.config.model import ARCHITECTURES, ModelConfig
from nanochat.config.optim import OptimConfig
from nanochat.model import loss as loss_module
from nanochat.model.gpt import GPT
from nanochat.model.memory import Batch, largest_rows, training_memory
from nanochat.optim.build import build_optimizer

SHAPE = {"depth": 4, "width": 96, "num_heads": 6, "num_kv_heads": 6, "vocab_size": 1000, "seq_len": 256}
CHANGES: dict[str, dict[str, Any]] = {
    "current": {}, "hf": ARCHITECTURES["hf"], "grouped": {"num_kv_heads": 2}, "shallow": {"depth": 2},
    "bare": {"depth": 5, "smear": False, "residual_scalars": False, "backout": False},
}  # fmt: skip
ROWS, TOLERANCE = 8, 0.03
NUMBER_BYTES = {torch.float32: 4, torch.bfloat16: 2}


@pytest.fixture(autouse=True)
def _attention_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a kernel that keeps no probabilities; those for CPUs keep them."""
    monkeypatch.setattr("nanochat.model.attend.LONGEST_IN_CHUNKS", 0)


@dataclass
class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that exist, and the most there ever were."""

    now: int = 0
    peak: int = 0
    known: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self.known[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, key: int) -> None:
        self.now -= self.known.pop(key)

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        self.peak = max(self.peak, self.now)
        return result


@pytest.fixture(autouse=True)
def _blocks_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss_module.BLOCK_TOKENS, "cpu", loss_module.BLOCK_TOKENS["cuda"])


def build(changes: str, dtype: torch.dtype) -> tuple[GPT, Tensor]:
    torch.manual_seed(0)
    model = GPT(ModelConfig(**{**SHAPE, **CHANGES[changes]}), dtype)
    model.init_weights()
    return model, torch.randint(0, SHAPE["vocab_size"], (ROWS, SHAPE["seq_len"]))


def measured_peak(model: GPT, tokens: Tensor, passes: int) -> int:
    """The most bytes of a second step, when the optimizer has its state."""
    optimizer, live = build_optimizer(model, OptimConfig()), Live()
    with live:
        for parameter in model.parameters():
            live.see(parameter)
        for _ in range(2):
            live.peak = 0
            for _ in range(passes):
                model.loss(tokens, tokens).backward()
            optimizer.step()
            optimizer.zero_grad()
    return live.peak


@pytest.mark.parametrize("dtype", NUMBER_BYTES, ids=str)
@pytest.mark.parametrize("changes", CHANGES)
def test_autograd_keeps_what_the_model_says(changes: str, dtype: torch.dtype) -> None:
    model, tokens = build(changes, dtype)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.loss(tokens, tokens)
    found = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    size = NUMBER_BYTES[dtype]
    said = training_memory(model.config, Batch(ROWS, number_bytes=size))
    assert said.casts + said.activations == pytest.approx(found, rel=TOLERANCE)  # the loss keeps its own
    assert loss.isfinite()


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("changes", CHANGES)
def test_the_peak_of_a_step_is_what_the_model_says(changes: str, passes: int) -> None:
    model, tokens = build(changes, torch.float32)
    said = training_memory(model.config, Batch(ROWS, passes, number_bytes=4))
    assert said.peak == pytest.approx(measured_peak(model, tokens, passes), rel=TOLERANCE)


@pytest.mark.parametrize("changes", ["current", "hf"])
def test_with_checkpoints_of_each_block_too(changes: str) -> None:
    model, tokens = build(changes, torch.float32)
    model.checkpointing = True
    batch = Batch(ROWS, 2, number_bytes=4, checkpointing=True)
    said = training_memory(model.config, batch)
    found = measured_peak(model, tokens, 2)
    assert said.peak == pytest.approx(found, rel=0.05)
    assert found < 0.7 * training_memory(model.config, Batch(ROWS, 2, number_bytes=4)).peak


@pytest.mark.parametrize("changes", CHANGES)
def test_weights_gradients_and_optimizer_state_are_counted_to_the_byte(changes: str) -> None:
    model, tokens = build(changes, torch.float32)
    optimizer = build_optimizer(model, OptimConfig())
    model.loss(tokens, tokens).backward()
    optimizer.step()
    held = dict.fromkeys(("momentum", "variance", "mean", "square", "step"), 0)
    for state in optimizer.state_dict()["state"].values():
        for name, tensor in state.items():
            held[name] += tensor.nbytes
    said = training_memory(model.config, Batch(ROWS))
    assert said.weights == sum(parameter.nbytes for parameter in model.parameters())
    assert said.gradients == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert (said.muon_momentum, said.muon_variance) == (held["momentum"], held["variance"])
    assert said.adamw_moments == held["mean"] + held["square"]


def test_ranks_share_the_optimizer_and_nothing_else() -> None:
    config = ModelConfig(**SHAPE)
    alone, shared = (training_memory(config, Batch(ROWS, ranks=ranks)).parts() for ranks in (1, 8))
    ratios = {name: alone[name] / shared[name] for name in alone if alone[name]}
    divided = {"muon_momentum", "muon_variance", "adamw_moments", "update"}
    assert {name for name, ratio in ratios.items() if ratio == pytest.approx(8, rel=0.01)} == divided
    assert all(ratio == 1 for name, ratio in ratios.items() if name not in divided)


def test_the_largest_batch_fits_and_twice_as_much_does_not() -> None:
    config, batch = ModelConfig(**SHAPE), Batch(1)
    peak = training_memory(config, Batch(16)).peak
    assert largest_rows(config, batch, 1000, peak) == 16
    assert largest_rows(config, batch, 1000, peak - 1) == 8
    assert largest_rows(config, batch, 1000, 1e6) == 0
    assert largest_rows(config, batch, 5, peak) == 4
