"""Fused elementwise parts equal the formulas they stand for, gradients included, in every dtype."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model.attention import rotary_tables
from nanochat.model.fused import norm, rotate_and_norm, squared_relu

TABLES = [table[None, :, None] for table in rotary_tables(6, 8, 10_000.0)]


def plain_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),), eps=torch.finfo(torch.float32).eps)


def plain_rotate_and_norm(x: Tensor) -> Tensor:
    (first, second), (cos, sin) = x.chunk(2, dim=-1), TABLES
    return 1.2 * plain_norm(torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1))


PAIRS = [
    pytest.param(norm, plain_norm, id="norm"),
    pytest.param(lambda x: rotate_and_norm(x, *TABLES, 1.2), plain_rotate_and_norm, id="rotate_and_norm"),
    pytest.param(squared_relu, lambda x: F.relu(x).square(), id="squared_relu"),
]


@pytest.mark.parametrize(("fused", "plain"), PAIRS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_values_and_gradients_equal_the_plain_formula(
    fused: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor], dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(2, 6, 3, 8)).to(dtype).requires_grad_()
    grad = torch.randn_like(x)
    reference = x.detach().double().requires_grad_()
    mine, theirs = fused(x), plain(reference)
    assert mine.dtype == dtype
    for got, expected in [
        (mine, theirs),
        (torch.autograd.grad(mine, x, grad)[0], torch.autograd.grad(theirs, reference, grad.double())[0]),
    ]:
        assert (got - expected).norm() <= tolerance * expected.norm()


def test_a_zero_vector_has_a_finite_norm_and_gradient() -> None:
    x = torch.zeros(1, 8, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
