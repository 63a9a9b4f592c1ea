"""Elementwise parts of a block with gradients of their own: fewer passes over memory, fewer tensors kept.

What autograd would make of the same formulas in half precision rounds after every operation and keeps every
result; here everything between input and output is fp32, and only the inputs are kept. torch.compile finds
the same by itself, and is given the plain formulas.

Shapes: B rows, T tokens, H heads, D head channels; ... any.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = torch.finfo(torch.float32).eps


def norm(x: Tensor) -> Tensor:
    """RMSNorm over the last dimension (Zhang and Sennrich, 2019) without learned gain, in the input dtype."""
    if torch.compiler.is_compiling():
        exact = x.float()
        return (exact * _plain_inverse_rms(exact)).to(x.dtype)
    out: Tensor = _Norm.apply(x)
    return out


def rotate_and_norm(x_BTHD: Tensor, cos: Tensor, sin: Tensor, scale: float) -> Tensor:
    """Rotate channel pairs (i, i + D/2) by the position's angle (Su et al., 2021), norm, times ``scale``.

    cos and sin are (B|1, T, 1, D/2).
    """
    if torch.compiler.is_compiling():
        (first, second), cos, sin = x_BTHD.float().chunk(2, dim=-1), cos.float(), sin.float()
        rotated = torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)
        return (rotated * _plain_inverse_rms(rotated) * scale).to(x_BTHD.dtype)
    out: Tensor = _RotateAndNorm.apply(x_BTHD, cos, sin, scale)
    return out


def squared_relu_linear(x: Tensor, weight: Tensor) -> Tensor:
    """relu(x)^2 (So et al., 2021) times the transposed weight.

    The weight is fp32 and multiplied in the dtype of ``x``. Of the two wide tensors only relu(x) is kept for
    the backward pass.
    """
    if torch.compiler.is_compiling():
        return F.linear(x.relu().square(), weight.to(x.dtype))
    out: Tensor = _SquaredReLULinear.apply(x, weight)
    return out


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        exact = x.float()
        inverse = _inverse_rms(exact)
        ctx.save_for_backward(x, inverse)
        return (exact * inverse).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, inverse = ctx.saved_tensors
        return _norm_backward(grads[0].float(), x.float(), inverse, 1.0).to(x.dtype)


class _RotateAndNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTHD: Tensor, cos: Tensor, sin: Tensor, scale: float) -> Tensor:
        rotated = _rotated(x_BTHD.float(), cos, sin, 1)
        inverse = _inverse_rms(rotated)
        ctx.save_for_backward(x_BTHD, cos, sin, inverse)
        ctx.scale = scale
        return rotated.mul_(inverse * scale).to(x_BTHD.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, cos, sin, inverse = ctx.saved_tensors
        # a rotation changes no length, so the norm's gradient can be taken before it as well as after
        back = _rotated(grads[0].float(), cos, sin, -1)
        return _norm_backward(back, x.float(), inverse, ctx.scale).to(x.dtype), None, None, None


class _SquaredReLULinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        positive = x.relu()
        ctx.save_for_backward(positive, weight)
        return F.linear(positive * positive, weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        positive, weight = ctx.saved_tensors
        grad, wide = grads[0].flatten(0, -2), positive.flatten(0, -2)
        grad_weight = (grad.T @ (wide * wide)).to(weight.dtype)
        grad_x = (grad @ weight.to(grad.dtype)).mul_(wide).mul_(2)
        return grad_x.view_as(positive), grad_weight


def _plain_inverse_rms(x: Tensor) -> Tensor:
    return (x.square().mean(dim=-1, keepdim=True) + EPS).rsqrt()


def _inverse_rms(x: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square_().div_(x.size(-1)).add_(EPS).rsqrt_()


def _norm_backward(grad: Tensor, x: Tensor, inverse: Tensor, scale: float) -> Tensor:
    """Gradient by x of scale * x * inverse, where inverse is 1 / rms(x); everything fp32."""
    along = (grad * x).sum(dim=-1, keepdim=True)
    return (grad * (inverse * scale)).addcmul_(x, along * inverse**3, value=-scale / x.size(-1))


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    out = torch.empty_like(x)
    (first, second), (new_first, new_second) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    cos, sin = cos.float(), sin.float()
    torch.mul(first, cos, out=new_first).addcmul_(second, sin, value=direction)
    torch.mul(second, cos, out=new_second).addcmul_(first, sin, value=-direction)
    return out
