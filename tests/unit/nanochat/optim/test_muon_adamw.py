"""The sharded optimizer against a dense one in float64: 1, 2 and 3 ranks, odd shapes, ranks that own nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.nanochat.optim.dense import DenseReference, gradient, parameters, zoo
from tests.unit.nanochat.optim.ranks import STEPS, make, snapshot, train

TOLERANCE = 2e-6  # largest difference of any parameter after STEPS steps; parameters are of order 1
RANKS = [2, 3]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """One process: after STEPS steps, and after as many again."""
    optimizer = make()
    norms = train(optimizer, 0, 1)
    trained = snapshot(optimizer)
    trained["optimizer"] = clone(trained["optimizer"])
    train(optimizer, 0, 1, STEPS)
    return {"norms": norms, "trained": trained, "longer": snapshot(optimizer)}


@pytest.fixture(scope="module", params=RANKS)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, alone) -> list[dict[str, Any]]:
    """What each of several processes saved; see ``ranks.main``."""
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    torch.save(alone["trained"], folder / "STATE")
    program = [sys.executable, "-m", "tests.unit.nanochat.optim.ranks"]
    running = [
        subprocess.Popen([*program, str(rank), str(request.param), str(folder)], stderr=subprocess.PIPE, text=True)
        for rank in range(request.param)
    ]
    for process in running:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    return [
        {path.stem.rpartition("-")[0]: torch.load(path) for path in folder.glob(f"*-{rank}.pt")}
        for rank in range(request.param)
    ]


def clone(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: clone(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [clone(item) for item in tree]
    return tree.clone() if isinstance(tree, Tensor) else tree


def difference(left: list[Tensor], right: list[Tensor]) -> float:
    return max(float((a.detach().double() - b.detach().double()).abs().max()) for a, b in zip(left, right, strict=True))


def states(snapshot: dict[str, Any]) -> list[Tensor]:
    state = snapshot["optimizer"]["state"]
    return [state[number][name] for number in sorted(state) for name in sorted(state[number])]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_one_process_equals_the_dense_reference(alone) -> None:
    reference, optimizer = DenseReference(zoo()), make()
    for step in range(2 * STEPS):
        optimizer.set_progress(step, 20)
        for mine, theirs in zip(optimizer.param_groups, reference.groups, strict=True):
            theirs.update({name: value for name, value in mine.items() if name != "params"})
        params = parameters(reference.groups)
        parts = [[gradient(p, n, step, part) for part in range(6)] for n, p in enumerate(params)]
        reference.step([torch.stack(of_one).mean(0) for of_one in parts])
    assert difference(alone["longer"]["params"], parameters(reference.groups)) < TOLERANCE


def test_the_norm_is_that_of_the_mean_gradient(alone, ranks) -> None:
    optimizer = make()
    params = parameters(optimizer.param_groups)
    mean = [torch.stack([gradient(p, n, 0, part) for part in range(6)]).mean(0) for n, p in enumerate(params)]
    expected = torch.cat([grad.flatten() for grad in mean]).norm().item()
    assert alone["norms"][0] == pytest.approx(expected, rel=1e-6)
    assert all(rank["norms"] == ranks[0]["norms"] for rank in ranks)
    assert ranks[0]["norms"] == pytest.approx(alone["norms"], rel=1e-6)


def test_several_ranks_equal_one_and_agree_to_the_last_bit(alone, ranks) -> None:
    assert difference(ranks[0]["trained"]["params"], alone["trained"]["params"]) < TOLERANCE
    assert all(same(rank["trained"]["params"], ranks[0]["trained"]["params"]) for rank in ranks)


def test_each_rank_owns_its_share_of_the_state_and_rank_0_gives_all_of_it(alone, ranks) -> None:
    first = ranks[0]["trained"]
    assert difference(states(first), states(alone["trained"])) < TOLERANCE
    assert [t.shape for t in states(first)] == [t.shape for t in states(alone["trained"])]
    assert all(rank["trained"]["optimizer"]["state"] == {} for rank in ranks[1:])
    whole = sum(t.numel() for t in states(first) if t.dim())
    assert sum(rank["owned"] for rank in ranks) == whole + 2  # those of the scalar parameter have no dimension
    assert max(rank["owned"] for rank in ranks) < 0.7 * whole


@pytest.mark.criterion("T08")
def test_state_of_one_process_goes_on_with_several_and_back(alone, ranks) -> None:
    assert difference(ranks[0]["resumed"]["params"], alone["longer"]["params"]) < TOLERANCE
    assert same(ranks[0]["resumed"]["params"], ranks[-1]["resumed"]["params"])
    optimizer = make(ranks[0]["trained"])
    train(optimizer, 0, 1, STEPS)
    assert difference(parameters(optimizer.param_groups), alone["longer"]["params"]) < TOLERANCE


@pytest.mark.criterion("T15")
@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_one_bad_number_on_one_rank_changes_nothing_on_any(ranks, bad: str) -> None:
    for rank in ranks:
        assert not any(map(torch.isfinite, torch.tensor(rank[f"norms-{bad}"])))
        assert same(rank[f"after-{bad}"]["params"], rank["trained"]["params"])
    assert same(states(ranks[0][f"after-{bad}"]), states(ranks[0]["trained"]))


def test_no_gradient_anywhere_changes_nothing(ranks) -> None:
    for rank in ranks:
        assert rank["norms-zero"] == [0.0] * STEPS
        assert same(rank["after-zero"]["params"], rank["trained"]["params"])
    assert same(states(ranks[0]["after-zero"]), states(ranks[0]["trained"]))


def test_a_rank_without_gradients_counts_as_one_whose_gradients_are_zero(ranks) -> None:
    count = len(ranks)
    optimizer = make()
    for step in range(STEPS):
        optimizer.set_progress(step, 20)
        for number, param in enumerate(parameters(optimizer.param_groups)):
            mine = [gradient(param, number, step, part) for part in range(0, 6, count)]
            param.grad = torch.stack(mine).mean(0) / count
        optimizer.step()
    assert difference(ranks[0]["lonely"]["params"], parameters(optimizer.param_groups)) < TOLERANCE


def test_state_goes_through_copies_exactly(alone) -> None:
    optimizer = make(alone["trained"])
    assert same(states(snapshot(optimizer)), states(alone["trained"]))
    train(optimizer, 0, 1, STEPS)
    assert same(parameters(optimizer.param_groups), alone["longer"]["params"])
    assert same(states(snapshot(optimizer)), states(alone["longer"]))


def test_state_of_other_shapes_is_refused(alone) -> None:
    state = clone(alone["trained"])
    state["optimizer"]["state"][0]["mean"] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match="9 items, not 32"):
        make(state)
