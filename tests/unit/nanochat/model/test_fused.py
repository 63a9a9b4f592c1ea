"""Fused elementwise parts equal the formulas they stand for, gradients included, in every dtype."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model.attention import rotary_tables
from nanochat.model.fused import norm, rotate_and_norm, squared_relu_linear

MATRIX = torch.linspace(-1, 1, 40).view(5, 8)
TABLES = [table[None, :, None] for table in rotary_tables(6, 8, 10_000.0)]


def plain_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),), eps=torch.finfo(torch.float32).eps)


def plain_rotate_and_norm(x: Tensor) -> Tensor:
    (first, second), (cos, sin) = x.chunk(2, dim=-1), TABLES
    return 1.2 * plain_norm(torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1))


PAIRS = [
    pytest.param(norm, plain_norm, id="norm"),
    pytest.param(lambda x: rotate_and_norm(x, *TABLES, 1.2), plain_rotate_and_norm, id="rotate_and_norm"),
    pytest.param(
        lambda x: squared_relu_linear(x, MATRIX),
        lambda x: F.linear(F.relu(x).square(), MATRIX.to(x.dtype)),
        id="squared_relu_linear",
    ),
]


@pytest.mark.parametrize(("fused", "plain"), PAIRS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_values_and_gradients_equal_the_plain_formula(
    fused: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor], dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(2, 6, 3, 8)).to(dtype).requires_grad_()
    reference = x.detach().double().requires_grad_()
    mine, theirs = fused(x), plain(reference)
    grad = torch.randn_like(mine)
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


def test_the_gradient_by_the_matrix_is_that_of_autograd() -> None:
    x, matrix = torch.randn(2, 6, 8), torch.randn(5, 8, requires_grad=True)
    mine = torch.autograd.grad(squared_relu_linear(x, matrix).sin().sum(), matrix)[0]
    theirs = torch.autograd.grad(F.linear(F.relu(x).square(), matrix).sin().sum(), matrix)[0]
    assert torch.allclose(mine, theirs, atol=1e-4)
