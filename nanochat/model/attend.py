"""Causal attention over whole sequences with a window, by the best kernel that the machine has.

One interface, three tiers: FlashAttention-3 (Shah et al., 2024) where it is installed and the GPU is a
Hopper; FlexAttention (Dong et al., 2024), compiled, on any other CUDA GPU, which skips blocks of keys that
the window hides; elsewhere ``scaled_dot_product_attention``, or on a CPU for short sequences
``attend_in_chunks``.

Shapes: B rows, H heads, T tokens, D head channels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model.attend_in_chunks import attend_in_chunks, hidden

HOPPER = (9, 0)
LONGEST_IN_CHUNKS = 1024  # beyond it the probabilities that are kept for the way back take too much memory


def tier(device_type: str, capability: tuple[int, int] | None, dtype: torch.dtype, has_fa3: bool) -> str:
    """Which implementation serves: "fa3", "flex" or "sdpa". FlashAttention-3 takes 16-bit inputs only."""
    if device_type != "cuda":
        return "sdpa"
    if has_fa3 and capability == HOPPER and dtype in (torch.bfloat16, torch.float16):
        return "fa3"
    return "flex"


def attend(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, window: int) -> Tensor:
    """Each token attends to itself and to ``window`` tokens before it; (B, H, T, D), in the inputs' dtype.

    Keys and values may have fewer heads than queries (each then serves a group of them).
    """
    return _IMPLEMENTATIONS[_tier_of(q_BHTD.device, q_BHTD.dtype)](q_BHTD, k_BHTD, v_BHTD, window)


@functools.cache
def _tier_of(device: torch.device, dtype: torch.dtype) -> str:
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return tier(device.type, capability, dtype, device.type == "cuda" and _fa3_function() is not None)


@functools.cache
def _fa3_function() -> Callable[..., Any] | None:
    try:
        from flash_attn_interface import flash_attn_func  # type: ignore[import-not-found]
    except ImportError:
        return None
    return flash_attn_func  # type: ignore[no-any-return]


def _fa3(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    function = _fa3_function()
    assert function is not None
    out = function(*(t.transpose(1, 2) for t in (q, k, v)), causal=True, window_size=(window, 0))
    return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)


def _flex(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    mask = _block_mask(q.size(2), window, q.device)
    return _compiled_flex()(q, k, v, block_mask=mask, enable_gqa=q.size(1) != k.size(1))  # type: ignore[no-any-return]


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


@functools.lru_cache(64)
def _block_mask(length: int, window: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(_row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query - key <= window)

    return create_block_mask(visible, None, None, length, length, device=device)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    length, group = q.size(2), q.size(1) // k.size(1)
    if q.device.type == "cpu" and length <= LONGEST_IN_CHUNKS:
        if group > 1:
            k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
        return attend_in_chunks(q, k, v, window)
    mask = None if length <= window + 1 else ~hidden(length, length, window, q.device)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=group > 1
    )


_IMPLEMENTATIONS = {"fa3": _fa3, "flex": _flex, "sdpa": _sdpa}
