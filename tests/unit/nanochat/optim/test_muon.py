"""Muon: what orthogonalisation and the step promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nanochat.optim.muon import compiled_muon_step, muon_step, orthogonalize


@pytest.mark.parametrize("size", [(24, 24), (64, 16), (16, 64)])
def test_orthogonalize_brings_singular_values_near_one_and_keeps_the_directions(
    size: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(3, *size)
    result = orthogonalize(matrix)
    singular = torch.linalg.svdvals(result)
    assert singular.min() > 0.4
    assert singular.median() > 0.9
    assert singular.max() < 1.3
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(result.flatten(), (u @ vt).flatten(), dim=0) > 0.97


def step(param: torch.Tensor, grad: torch.Tensor, **changes: Any) -> torch.Tensor:
    variance = (
        torch.zeros(1, param.size(1), 1)
        if param.size(1) >= param.size(2)
        else torch.zeros(1, 1, param.size(2))
    )
    settings = {"lr": 0.1, "momentum": 0.0, "beta2": 0.9, "weight_decay": 0.0, **changes}
    out = param.clone()
    muon_step(out, grad, torch.zeros_like(param), variance, **settings)
    return out


def test_the_step_does_not_depend_on_the_size_of_the_gradient() -> None:
    torch.manual_seed(1)
    param, grad = torch.randn(1, 16, 8), torch.randn(1, 16, 8)
    assert torch.allclose(step(param, grad), step(param, grad * 1000), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_lose_a_small_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    param, grad = torch.randn(1, 128, 128), torch.randn(1, 128, 128)
    exact, half = param - step(param, grad), param - step(param, grad * 1e-6, dtype=dtype)
    assert (exact - half).norm() < 0.03 * exact.norm()


def test_the_step_goes_against_the_gradient_with_the_stated_norm() -> None:
    torch.manual_seed(2)
    param, grad = torch.zeros(1, 32, 8), torch.randn(1, 32, 8)
    moved = step(param, grad)
    assert (moved * grad).sum() < 0
    assert moved.norm() == pytest.approx(0.1 * (32 / 8) ** 0.5 * 8**0.5, rel=1e-3)


def test_weight_decay_only_shrinks_where_it_agrees_with_the_update() -> None:
    torch.manual_seed(3)
    param, grad = torch.randn(1, 16, 16), torch.randn(1, 16, 16)
    plain, decayed = step(param, grad), step(param, grad, weight_decay=0.5)
    update = param - plain
    touched = (plain - decayed).abs() > 1e-7
    assert torch.equal(touched, (update * param) > 0)


@pytest.mark.needs("c++")
def test_compiled_it_takes_the_same_step_at_every_rate() -> None:
    torch.manual_seed(4)
    start, grads = torch.randn(2, 32, 8), torch.randn(3, 2, 32, 8)
    found = []
    for rule in (muon_step, compiled_muon_step):
        param, momentum, variance = start.clone(), torch.zeros(2, 32, 8), torch.zeros(2, 32, 1)
        for step, grad in enumerate(grads):
            rates = {"lr": 0.1 / (step + 1), "momentum": 0.9 + step / 100, "beta2": 0.9, "weight_decay": 0.1}
            rule(param, grad.clone(), momentum, variance, **rates, dtype=torch.float32)
        found.append((param, momentum, variance))
    for mine, compiled in zip(*found, strict=True):
        assert torch.allclose(mine, compiled, rtol=0, atol=2e-6)
