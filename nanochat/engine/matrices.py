"""Matrices of a model that only reads, kept in one number format and laid out for the machine.

Reading one token means streaming every matrix from memory once, so its time is bytes over bandwidth.

Shapes: N rows, I inputs, O outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from artifacts.errors import UsageError

WeightFormat = Literal["float32", "float16", "bfloat16", "int8"]
FORMATS: tuple[WeightFormat, ...] = ("float32", "float16", "bfloat16", "int8")
BYTES: dict[WeightFormat, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}

Matrix = Callable[[Tensor], Tensor]  # (N, I) to (N, O)


def best_format(device: torch.device) -> WeightFormat:
    """The fastest format of this machine that answers as fp32 does on nearly all tokens."""
    if device.type != "cpu":
        return "bfloat16"
    if _multiplies_bfloat16():
        return "bfloat16"
    return "float16" if "float16" in formats_of(device) else "float32"


def formats_of(device: torch.device) -> tuple[WeightFormat, ...]:
    """The formats that this machine has fast products for; the packed ones are FBGEMM's, on x86."""
    if device.type != "cpu":
        return ("float32", "bfloat16")
    packed = "fbgemm" in torch.backends.quantized.supported_engines
    return FORMATS if packed else ("float32", "bfloat16")


def activation_dtype(kept_as: WeightFormat) -> torch.dtype:
    """What a matrix of this format takes and gives: packed weights are multiplied with fp32."""
    return torch.bfloat16 if kept_as == "bfloat16" else torch.float32


def matrix(weight_OI: Tensor, kept_as: WeightFormat, *, relu: bool = False) -> Matrix:
    """The product with the transpose of ``weight_OI``, which is fp32, and then ``relu`` of it.

    UsageError for a format that this machine has not.
    """
    if kept_as not in (formats := formats_of(weight_OI.device)):
        raise UsageError(f"weights in {kept_as} on {weight_OI.device.type}", f"one of {', '.join(formats)}")
    if kept_as == "float16":
        return _packed_float16(weight_OI, relu)
    if kept_as == "int8":
        return _packed_int8(weight_OI, relu)
    plain = _plain(weight_OI, kept_as)
    return (lambda x_NI: plain(x_NI).relu_()) if relu else plain


def _plain(weight_OI: Tensor, kept_as: WeightFormat) -> Matrix:
    weight_OI = weight_OI.to(activation_dtype(kept_as))
    if weight_OI.device.type != "cpu" or kept_as == "bfloat16":
        weight_OI = weight_OI.contiguous()
        return lambda x_NI: F.linear(x_NI, weight_OI)
    weight_IO = weight_OI.T.contiguous()  # twice as fast for one row as its transpose
    return lambda x_NI: torch.mm(x_NI, weight_IO)


def _packed_float16(weight_OI: Tensor, relu: bool) -> Matrix:
    limit = torch.finfo(torch.float16).max
    packed = torch.ops.quantized.linear_prepack_fp16(weight_OI.clamp(-limit, limit).contiguous(), None)
    operations = torch.ops.quantized
    product = operations.linear_relu_dynamic_fp16 if relu else operations.linear_dynamic_fp16
    return lambda x_NI: product(x_NI, packed)


def _packed_int8(weight_OI: Tensor, relu: bool) -> Matrix:
    """One scale an output; the input is quantised too, with one scale for all of it."""
    scale_O = (weight_OI.abs().amax(dim=1).clamp_min(1e-12) / 127).double()
    zero_O = torch.zeros(len(weight_OI), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's way of making such tensors is announced to move
        quantised = torch.quantize_per_channel(weight_OI, scale_O, zero_O, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(quantised, None)
    product = torch.ops.quantized.linear_relu_dynamic if relu else torch.ops.quantized.linear_dynamic
    return lambda x_NI: product(x_NI, packed, True)


def _multiplies_bfloat16() -> bool:
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
