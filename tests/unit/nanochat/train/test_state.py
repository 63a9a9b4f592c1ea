"""A training run cut by capture, save, load, restore goes on as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import DataError
from nanochat.train.checkpoint import load_checkpoint, save_checkpoint
from nanochat.train.state import TrainState, flatten, random_state, set_random_state, unflatten


class Counting:
    """A loader that only counts."""

    def __init__(self) -> None:
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def make(optimizer: str = "AdamW", width: int = 6) -> TrainState:
    layers = (
        torch.nn.Linear(4, width),
        torch.nn.BatchNorm1d(width),
        torch.nn.Dropout(),
        torch.nn.Linear(width, 1),
    )
    model = torch.nn.Sequential(*layers)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "lr": 0.1 / 3}, {"params": rest, "lr": 1e-3}]
    settings = {"SGD": {"momentum": 0.9}, "AdamW": {"betas": (0.8, 0.95)}, "Adam": {"amsgrad": True}}
    return TrainState(
        model, getattr(torch.optim, optimizer)(groups, **settings[optimizer]), Counting(), {"step": 0}
    )


def train(run: TrainState, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        batch = torch.randn(8, 4) * random.random() + np.random.rand()
        loss = run.model(batch).square().mean()
        loss.backward()
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.loader.position += 1
        run.counters["step"] += 1
        losses.append(loss.item())
    return losses


@pytest.mark.criterion("T06")
@pytest.mark.parametrize("optimizer", ["AdamW", "Adam", "SGD"])
@pytest.mark.parametrize("cut", [0, 1, 7])
def test_a_restored_run_repeats_the_uninterrupted_one_to_the_last_bit(tmp_path: Path, optimizer, cut) -> None:
    run = make(optimizer)
    train(run, cut)
    path = save_checkpoint(tmp_path, cut, *run.capture())
    losses = train(run, 10)
    resumed = make(optimizer)
    train(resumed, 3)
    resumed.restore(*load_checkpoint(path))
    assert train(resumed, 10) == losses
    assert (resumed.counters, resumed.loader.position) == ({"step": cut + 10}, cut + 10)
    (tensors, state), (expected_tensors, expected_state) = resumed.capture(), run.capture()
    assert json.dumps(state) == json.dumps(expected_state)
    assert tensors.keys() == expected_tensors.keys()
    assert all(torch.equal(tensor, expected_tensors[name]) for name, tensor in tensors.items())


def test_restored_tensors_are_copies(tmp_path: Path) -> None:
    run = make()
    train(run, 2)
    tensors, state = run.capture()
    saved = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    copy = {name: tensor.clone() for name, tensor in saved.items()}
    run.restore(saved, state)
    train(run, 2)
    assert all(torch.equal(saved[name], tensor) for name, tensor in copy.items())


def test_another_model_optimizer_or_schema_is_refused() -> None:
    run = make()
    train(run, 1)
    tensors, state = run.capture()
    with pytest.raises(DataError, match=r"another model or optimizer.*size mismatch"):
        make(width=7).restore(tensors, state)
    with pytest.raises(DataError, match=r"lacks the tensor optimizer\.state"):
        make().restore({name: t for name, t in tensors.items() if "exp_avg_sq" not in name}, state)
    with pytest.raises(DataError, match="schema None"):
        make().restore(tensors, {})


def test_random_states_of_another_number_of_ranks_are_left_alone(caplog) -> None:
    run = make()
    tensors, state = run.capture()
    before = random_state()
    random.random()
    moved = random_state()
    run.restore(tensors, {**state, "random": [before, before]})
    assert random_state() == moved
    assert "2 ranks do not fit 1 ranks" in caplog.text


def test_each_rank_gets_its_own_random_state_back(monkeypatch) -> None:
    def gather(values: list[Any], value: Any) -> None:
        values[:] = [other, value]

    run, other = make(), random_state()
    random.random()
    own = random_state()
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    tensors, state = run.capture()
    for rank, expected in enumerate((other, own)):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        run.restore(tensors, state)
        assert random_state() == expected


def test_random_state_survives_json() -> None:
    state = json.loads(json.dumps(random_state()))

    def draw() -> tuple[float, float, float, float]:
        return random.gauss(), random.random(), np.random.standard_normal(), torch.rand(1).item()

    expected = [draw() for _ in range(3)]
    set_random_state(state)
    assert [draw() for _ in range(3)] == expected


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(TREES)
def test_a_tree_keeps_its_types_through_json(tree: Any) -> None:
    found = unflatten(json.loads(json.dumps(flatten(tree, "tree", {}))), {})
    assert repr(found) == repr(tree)


def test_what_is_neither_json_nor_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"optimizer\.groups\.0 is a set"):
        flatten({"groups": [{1}]}, "optimizer", {})
