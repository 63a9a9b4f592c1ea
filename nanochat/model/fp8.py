"""Matrix products of training in 8 bits, for GPUs that multiply these twice as fast as bfloat16.

After Micikevicius et al. (2022) and torchao's tensorwise dynamic scaling: each operand is multiplied by one
number of its own, so that its largest value is near the largest of the format. e4m3 for inputs and weights,
e5m2 with its wider range for gradients; sums and results are wider. The factor is a power of two: it rounds
nothing, so a value is rounded once, and a CPU computes the same 8 bits as a GPU.

Weights stay fp32, and nothing new is kept for the backward pass: operands are made again from what is kept
anyway. Where no gradients are taken (validation, evaluation, inference) products are the ordinary ones.

Shapes: N tokens, I inputs, O outputs of a matrix; ... any.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from artifacts.errors import ResourceError, UsageError
from nanochat.model.attention import Linear, SquaredReLULinear

logger = logging.getLogger(__name__)

HOPPER = (9, 0)  # what multiplies e4m3 and e5m2 from this compute capability on
MULTIPLE, SMALLEST = 16, 128  # of both sides of a matrix: what kernels ask for; below, scaling costs more
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
TINY = 1e-24  # a tensor whose largest value is below is scaled as if it were this: all that is lost is zero
_EXPONENT = 0x7F800000  # of an fp32


class Float8Linear(Linear):
    """A ``Linear`` that multiplies in 8 bits where gradients are taken."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        out: Tensor = _Float8Linear.apply(x, self.weight)
        return out


class Float8SquaredReLULinear(SquaredReLULinear):
    """A ``SquaredReLULinear`` that multiplies in 8 bits where gradients are taken."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        out: Tensor = _Float8SquaredReLULinear.apply(x, self.weight)
        return out


_IN_FP8: dict[type[nn.Module], type[nn.Module]] = {
    Linear: Float8Linear,
    SquaredReLULinear: Float8SquaredReLULinear,
}


def multiply_in_fp8(blocks: nn.Module, seq_len: int) -> list[str]:
    """Let the large matrices of ``blocks`` multiply in 8 bits; their names. Parameters stay what they are.

    ResourceError where the GPU cannot do it; a CPU can, slowly. UsageError for a model that has no such
    matrix, or rows of another length than a multiple of 16.
    """
    matrices = {
        name: module
        for name, module in blocks.named_modules()
        if type(module) in _IN_FP8 and _is_large(module.weight)
    }
    if not matrices:
        raise UsageError(
            f"fp8: no matrix of the model has two sides of at least {SMALLEST} that {MULTIPLE} divides",
            "set fp8=false, or a wider model",
        )
    if seq_len % MULTIPLE:
        raise UsageError(f"fp8: seq_len = {seq_len} is not a multiple of {MULTIPLE}", "set fp8=false")
    device = next(iter(matrices.values())).weight.device
    if device.type == "cpu":
        logger.warning("fp8 on a CPU shows what it does to the loss; it is slower than without")
    else:
        require_hopper(torch.cuda.get_device_capability(device))
    for module in matrices.values():
        module.__class__ = _IN_FP8[type(module)]
    return list(matrices)


def _is_large(weight: Tensor) -> bool:
    return all(side >= SMALLEST and side % MULTIPLE == 0 for side in weight.shape)


def require_hopper(capability: tuple[int, int]) -> None:
    """ResourceError if a GPU of this compute capability is older than Hopper."""
    if capability < HOPPER:
        major, minor = capability
        raise ResourceError(
            f"fp8 needs a GPU of compute capability 9.0 (Hopper), this one has {major}.{minor}",
            "set fp8=false",
        )


class _Float8Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor) -> Tensor:
        scales = scale_of(x, E4M3), scale_of(weight_OI, E4M3)
        ctx.save_for_backward(x, weight_OI, *scales)
        return output(x, weight_OI, *scales)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, weight, *scales = ctx.saved_tensors
        return gradients(grads[0], x, weight, *scales)


class _Float8SquaredReLULinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor) -> Tensor:
        positive = x.relu()
        squared = positive * positive
        scales = scale_of(squared, E4M3), scale_of(weight_OI, E4M3)
        ctx.save_for_backward(positive, weight_OI, *scales)
        return output(squared, weight_OI, *scales)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        positive, weight, *scales = ctx.saved_tensors
        grad_squared, grad_weight = gradients(grads[0], positive * positive, weight, *scales)
        return grad_squared.mul_(positive).mul_(2), grad_weight


def scale_of(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The largest power of two that keeps ``x`` times it within ``dtype``; an fp32 scalar, no host waits."""
    largest = torch.linalg.vector_norm(x, float("inf"), dtype=torch.float32).clamp_min(TINY)
    most: Tensor = torch.finfo(dtype).max / largest
    return most.view(torch.int32).bitwise_and(_EXPONENT).view(torch.float32)


def to_fp8(x: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """``x`` times ``scale`` in ``dtype``, contiguous whatever ``x`` is; one pass over memory."""
    if torch.compiler.is_compiling():
        return (x.float() * scale).to(dtype).contiguous()
    if x.dtype == torch.float16:  # in which the scale itself would overflow
        x = x.float()
    return torch.mul(x, scale, out=torch.empty(x.shape, dtype=dtype, device=x.device))


def output(x: Tensor, weight_OI: Tensor, x_scale: Tensor, weight_scale: Tensor) -> Tensor:
    """``x`` (..., I) times the transposed weight, (..., O) in the dtype of ``x``."""
    out_NO = _product(x.flatten(0, -2), weight_OI, x_scale, weight_scale, E4M3, x.dtype, fast=True)
    return out_NO.view(*x.shape[:-1], -1)


def gradients(
    grad: Tensor, x: Tensor, weight_OI: Tensor, x_scale: Tensor, weight_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the loss by ``x``, in its shape and dtype, and by the weight, in fp32."""
    grad_NO, x_NI = grad.flatten(0, -2), x.flatten(0, -2)
    scale = scale_of(grad_NO, E5M2)
    by_x_NI = _product(grad_NO, weight_OI.T, scale, weight_scale, E5M2, x.dtype)
    by_weight_OI = _product(grad_NO.T, x_NI.T, scale, x_scale, E5M2, weight_OI.dtype)
    return by_x_NI.view_as(x), by_weight_OI


def _product(
    a_MK: Tensor, b_NK: Tensor, a_scale: Tensor, b_scale: Tensor,
    a_format: torch.dtype, dtype: torch.dtype, *, fast: bool = False,
) -> Tensor:  # fmt: skip
    """``a_MK`` times the transposed ``b_NK``, (M, N) in ``dtype``; both with K last is what kernels take.

    ``fast`` sums with fewer bits (Hopper's own accumulator): good enough on the way forward.
    """
    return torch._scaled_mm(
        to_fp8(a_MK, a_scale, a_format), to_fp8(b_NK, b_scale, E4M3).T,
        scale_a=a_scale.reciprocal(), scale_b=b_scale.reciprocal(), out_dtype=dtype, use_fast_accum=fast,
    )  # fmt: skip
