"""The combined optimizer: every parameter once, schedules, exact state."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nanochat.config.model import ModelConfig
from nanochat.config.optim import OptimConfig
from nanochat.model.gpt import GPT
from nanochat.optim.build import MuonAdamW, build_optimizer

SHAPE = ModelConfig(depth=2, width=32, num_heads=2, num_kv_heads=2, vocab_size=64, seq_len=16)


def model_and_optimizer(seed: int = 0) -> tuple[GPT, MuonAdamW]:
    torch.manual_seed(seed)
    model = GPT(SHAPE)
    model.init_weights()
    return model, build_optimizer(model, OptimConfig(lr_scale=0.2))


def train(model: GPT, optimizer: MuonAdamW, steps: int, start: int = 0) -> list[float]:
    losses = []
    for number in range(start, start + steps):
        tokens = torch.randint(0, 64, (4, 17), generator=torch.Generator().manual_seed(number % 2))
        optimizer.set_progress(number, 40)
        optimizer.zero_grad()
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_every_parameter_is_in_one_group_and_matrices_of_blocks_go_to_muon() -> None:
    model, optimizer = model_and_optimizer()
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    muon = {id(p) for group in optimizer.param_groups if group["kind"] == "muon" for p in group["params"]}
    assert muon == {id(p) for name, p in model.named_parameters() if name.startswith("blocks.")}


def test_training_memorises_two_batches() -> None:
    losses = train(*model_and_optimizer(), steps=40)
    assert losses[-1] < 0.5 * losses[0]


def test_state_restored_into_a_new_optimizer_continues_bit_for_bit() -> None:
    straight = model_and_optimizer()
    expected = train(*straight, steps=10)
    model, optimizer = model_and_optimizer()
    first = train(model, optimizer, steps=6)
    copy, copy_optimizer = model_and_optimizer(seed=9)
    copy.load_state_dict(model.state_dict())
    copy_optimizer.load_state_dict(optimizer.state_dict())
    assert first + train(copy, copy_optimizer, steps=4, start=6) == expected
    for mine, reference in zip(copy.parameters(), straight[0].parameters(), strict=True):
        assert torch.equal(mine, reference)


def test_state_of_another_model_is_refused() -> None:
    _, optimizer = model_and_optimizer()
    state = optimizer.state_dict()
    state["param_groups"] = state["param_groups"][1:]
    with pytest.raises(ValueError, match="groups"):
        optimizer.load_state_dict(state)


def test_training_does_not_import_the_compiler(pytestconfig: pytest.Config) -> None:
    step = """if True:
        import sys, torch
        from nanochat.train.setup import seed_everything
        from tests.unit.nanochat.optim.test_build import model_and_optimizer, train
        seed_everything(1, torch.device("cpu"))
        train(*model_and_optimizer(), steps=1)
        assert torch.are_deterministic_algorithms_enabled()
        print([name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", step], capture_output=True, text=True, cwd=pytestconfig.rootpath
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("grads", ["none", "zeros"])
def test_a_step_without_gradients_leaves_everything_as_it_is(grads: str) -> None:
    model, optimizer = model_and_optimizer()
    before = {name: p.clone() for name, p in model.named_parameters()}
    if grads == "zeros":
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
    assert optimizer.step() == 0
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert optimizer.state_dict()["state"] == {}


def test_muon_orthogonalizes_in_the_compute_dtype_of_the_model() -> None:
    steps = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        model = GPT(SHAPE, dtype)
        model.init_weights()
        optimizer, matrix = build_optimizer(model, OptimConfig(weight_decay=0)), model.blocks[0].mlp.up.weight
        before = matrix.detach().clone()
        for p in model.parameters():
            p.grad = torch.randn(p.shape)
        optimizer.step()
        steps.append(matrix.detach() - before)
    gap = (steps[0] - steps[1]).norm() / steps[0].norm()
    assert 1e-4 < gap < 0.03
