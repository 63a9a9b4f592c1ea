"""Causal attention over whole sequences with a window, by the best kernel that the machine has.

One interface, three tiers: FlashAttention-3 (Shah et al., 2024) where it is installed and the GPU is a
Hopper; FlexAttention (Dong et al., 2024), compiled, on any other CUDA GPU, which skips blocks of keys that
the window hides; elsewhere ``scaled_dot_product_attention``, or on a CPU for short sequences
``attend_in_chunks``.

Where ``documents_BT`` numbers the documents of each row, a token sees those of its own document alone.
FlashAttention-3 would want such rows in another layout, so FlexAttention serves them.

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
FLEX_BLOCK = 128
LONGEST_IN_CHUNKS = 1024  # beyond it the probabilities that are kept for the way back take too much memory


def tier(
    device_type: str,
    capability: tuple[int, int] | None,
    dtype: torch.dtype,
    has_fa3: bool,
    documents: bool = False,
    whole_blocks: bool = True,
) -> str:
    """Which implementation serves: "fa3", "flex" or "sdpa".

    FlashAttention-3 takes 16-bit inputs only, and no ``documents``. FlexAttention is compiled for each
    length, so it serves rows of ``whole_blocks``, as training packs them, and not answers of any length.
    """
    if device_type != "cuda":
        return "sdpa"
    if has_fa3 and not documents and capability == HOPPER and dtype in (torch.bfloat16, torch.float16):
        return "fa3"
    return "flex" if whole_blocks else "sdpa"


def attend(
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    v_BHTD: Tensor,
    window: int,
    documents_BT: Tensor | None = None,
    *,
    packed: bool = True,
) -> Tensor:
    """Each token attends to itself and to ``window`` tokens before it; (B, H, T, D), in the inputs' dtype.

    Keys and values may have fewer heads than queries (each then serves a group of them). Given
    ``documents_BT``, a token sees only those with its own number. ``packed``: rows of the one length that the
    model is trained with, for which it pays to compile.
    """
    whole_blocks = packed and q_BHTD.size(2) % FLEX_BLOCK == 0
    name = _tier_of(q_BHTD.device, q_BHTD.dtype, documents_BT is not None, whole_blocks)
    return _IMPLEMENTATIONS[name](q_BHTD, k_BHTD, v_BHTD, window, documents_BT)


@functools.cache
def _tier_of(device: torch.device, dtype: torch.dtype, documents: bool, whole_blocks: bool) -> str:
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    has_fa3 = device.type == "cuda" and _fa3_function() is not None
    return tier(device.type, capability, dtype, has_fa3, documents, whole_blocks)


@functools.cache
def _fa3_function() -> Callable[..., Any] | None:
    try:
        from flash_attn_interface import flash_attn_func  # type: ignore[import-not-found]
    except ImportError:
        return None
    return flash_attn_func  # type: ignore[no-any-return]


def _fa3(q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None) -> Tensor:
    function = _fa3_function()
    assert function is not None
    assert documents is None
    out = function(*(t.transpose(1, 2) for t in (q, k, v)), causal=True, window_size=(window, 0))
    return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)


def _flex(q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None) -> Tensor:
    if documents is None:
        mask = _block_mask(q.size(2), window, q.device)
    else:
        mask = _documents_mask(documents, window)
    return _compiled_flex()(q, k, v, block_mask=mask, enable_gqa=q.size(1) != k.size(1))  # type: ignore[no-any-return]


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    allow_variants()
    return torch.compile(flex_attention, dynamic=False)


def allow_variants() -> None:
    """Let code be compiled for more than eight shapes, windows and modes, after which PyTorch gives up."""
    import torch._dynamo.config

    torch._dynamo.config.recompile_limit = 64


@functools.lru_cache(64)
def _block_mask(length: int, window: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(_row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query - key <= window)

    return create_block_mask(visible, None, None, length, length, device=device)


@functools.lru_cache(4)  # the layers of one pass share the tensor, which is known by its identity
def _documents_mask(documents_BT: Tensor, window: int) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        near = (query >= key) & (query - key <= window)
        return near & (documents_BT[row, query] == documents_BT[row, key])

    rows, length = documents_BT.shape
    return create_block_mask(visible, rows, None, length, length, device=documents_BT.device)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None) -> Tensor:
    length, group = q.size(2), q.size(1) // k.size(1)
    if q.device.type == "cpu" and length <= LONGEST_IN_CHUNKS:
        if group > 1:
            k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
        return attend_in_chunks(q, k, v, window, documents)
    mask = None
    if documents is not None:
        same_B1TT = (documents[:, :, None] == documents[:, None, :]).unsqueeze(1)
        mask = same_B1TT & ~hidden(length, length, window, q.device)
    elif length > window + 1:
        mask = ~hidden(length, length, window, q.device)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=group > 1
    )


_IMPLEMENTATIONS = {"fa3": _fa3, "flex": _flex, "sdpa": _sdpa}
