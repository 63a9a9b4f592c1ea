"""The combined optimizer: every parameter once, schedules, exact state."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from nanochat.config.model import ModelConfig
from nanochat.config.optim import OptimConfig
from nanochat.model.gpt import GPT
from nanochat.optim.build import MuonAdamW, build_optimizer
from nanochat.optim.loss_scale import FIRST
from nanochat.optim.muon import compiled_muon_step, muon_step

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


@pytest.mark.parametrize(("setting", "compiled"), [("on", True), ("off", False), ("auto", False)])
def test_the_compiled_step_is_a_setting_and_not_the_rule_on_a_cpu(setting: str, compiled: bool) -> None:
    model, _ = model_and_optimizer()
    chosen = build_optimizer(model, OptimConfig(compile=setting))._muon_step.func
    assert chosen is (compiled_muon_step if compiled else muon_step)


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


def stepped(on_device: bool, bad: str = "") -> tuple[list[torch.Tensor], dict[str, Any], torch.Tensor]:
    model, optimizer = model_and_optimizer()
    optimizer._on_device = on_device
    norm = torch.zeros(())
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        loss = torch.tensor(1.0)
        if number == 2 and bad == "loss":
            loss.fill_(float("nan"))
        elif number == 2 and bad:
            next(model.parameters()).grad.view(-1)[0] = float(bad)
        if number < 2 or bad:
            norm = optimizer.step(loss)
    return [p.detach().clone() for p in model.parameters()], optimizer.state_dict()["state"], norm


def test_a_step_decided_on_the_device_is_the_same_step() -> None:
    params, state, norm = stepped(on_device=True)
    expected, expected_state, expected_norm = stepped(on_device=False)
    assert norm == expected_norm
    assert all(torch.equal(mine, other) for mine, other in zip(params, expected, strict=True))
    assert repr(state) == repr(expected_state)


@pytest.mark.parametrize("on_device", [True, False])
def test_a_gradient_longer_than_the_limit_counts_as_one_of_that_length(on_device: bool) -> None:
    ends = []
    for length in (0.5, 1.0, 1.0, 30.0):
        model, optimizer = model_and_optimizer()
        optimizer._on_device = on_device
        generator = torch.Generator().manual_seed(3)
        grads = [torch.randn(p.shape, generator=generator) for p in model.parameters()]
        size = torch.stack([g.norm() for g in grads]).norm()
        for number, scale in enumerate((1.0, length)):
            for p, grad in zip(model.parameters(), grads, strict=True):
                p.grad = grad * (scale / size) if number else grad.roll(1) / size
            norm = optimizer.step()
        assert float(norm) == pytest.approx(length)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    shorter, limit, again, longer = ends
    assert torch.equal(limit, again)
    assert torch.allclose(limit, longer, rtol=0, atol=1e-5)
    assert not torch.allclose(limit, shorter, rtol=0, atol=1e-3)


@pytest.mark.criterion("T15")
@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", "loss"])
def test_what_is_not_finite_changes_neither_weights_nor_state(bad: str, on_device: bool) -> None:
    params, state, norm = stepped(on_device, bad)
    expected, expected_state, _ = stepped(on_device)
    assert bad == "loss" or not norm.isfinite()
    assert all(torch.equal(mine, other) for mine, other in zip(params, expected, strict=True))
    for number, values in state.items():
        assert all(torch.equal(value, expected_state[number][name]) for name, value in values.items())


def test_float16_scales_the_loss_and_halves_the_scale_when_gradients_overflow() -> None:
    torch.manual_seed(0)
    model = GPT(SHAPE, torch.float16)
    model.init_weights()
    optimizer = build_optimizer(model, OptimConfig())
    scale = optimizer.loss_scale
    before, first = [p.detach().clone() for p in model.parameters()], float(scale.value)
    for p in model.parameters():
        p.grad = torch.full_like(p, float("inf"))
    assert not optimizer.step().isfinite()
    assert float(scale.value) == first / 2
    assert all(torch.equal(mine, other) for mine, other in zip(model.parameters(), before, strict=True))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    count = sum(p.numel() for p in model.parameters())
    assert float(optimizer.step()) == pytest.approx(count**0.5 / float(scale.value))
    again = build_optimizer(model, OptimConfig())
    again.load_state_dict(optimizer.state_dict())
    assert float(again.loss_scale.value) == first / 2


def test_what_began_in_another_dtype_goes_on_in_float16() -> None:
    _, optimizer = model_and_optimizer()
    resumed = build_optimizer(GPT(SHAPE, torch.float16), OptimConfig())
    resumed.load_state_dict(optimizer.state_dict())
    assert float(resumed.loss_scale.value) == FIRST
