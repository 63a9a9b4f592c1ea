"""Attention for CPUs: plain matrix products over a chunk of queries and the keys that it may see.

PyTorch's own kernel for CPUs multiplies small tiles at a fifth of the speed of a matrix product, and masks
the keys outside a window without skipping them.

Shapes: G = rows x heads, T tokens, Q queries of one chunk, K keys that some of them see, D head channels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK_QUERIES = 128


def attend_in_chunks(
    q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, window: int, documents_BT: Tensor | None = None
) -> Tensor:
    """Each token attends to itself and to ``window`` tokens before it; (B, H, T, D), in the inputs' dtype.

    Given ``documents_BT``, only to tokens with its own number. Scores and softmax are fp32. Probabilities
    are kept for the backward pass in the inputs' dtype.
    """
    out: Tensor = _Attention.apply(q_BHTD, k_BHTD, v_BHTD, window, documents_BT)
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q_BHTD: Tensor,
        k_BHTD: Tensor,
        v_BHTD: Tensor,
        window: int,
        documents_BT: Tensor | None,
    ) -> Tensor:
        q, k, v = (x.flatten(0, 1) for x in (q_BHTD, k_BHTD, v_BHTD))
        scale = q.size(-1) ** -0.5
        out_GTD, kept = torch.empty_like(q), []
        for queries, keys in _chunks(q.size(1), window):
            scores_GQK = torch.bmm(q[:, queries].float() * scale, k[:, keys].float().mT)
            scores_GQK.masked_fill_(hidden(*scores_GQK.shape[1:], window, q.device), float("-inf"))
            if documents_BT is not None:
                other_BQK = documents_BT[:, queries, None] != documents_BT[:, None, keys]
                scores_BHQK = scores_GQK.view(*q_BHTD.shape[:2], *scores_GQK.shape[1:])
                scores_BHQK.masked_fill_(other_BQK.unsqueeze(1), float("-inf"))
            weights_GQK = torch.softmax(scores_GQK, dim=-1).to(q.dtype)
            out_GTD[:, queries] = torch.bmm(weights_GQK, v[:, keys])
            kept.append(weights_GQK)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.window = window
        return out_GTD.view_as(q_BHTD)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        grad_GTD, scale = grads[0].flatten(0, 1), q.size(-1) ** -0.5
        grad_q = torch.empty_like(q)
        grad_k, grad_v = torch.zeros(2, *k.shape, dtype=torch.float32, device=k.device)
        for weights_GQK, (queries, keys) in zip(kept, _chunks(q.size(1), ctx.window), strict=True):
            grad = grad_GTD[:, queries]
            grad_v[:, keys] += torch.bmm(weights_GQK.mT, grad)
            grad_weights = torch.bmm(grad, v[:, keys].mT)
            grad_scores = torch._softmax_backward_data(grad_weights, weights_GQK, -1, q.dtype).mul_(scale)
            grad_q[:, queries] = torch.bmm(grad_scores, k[:, keys])
            grad_k[:, keys] += torch.bmm(grad_scores.mT, q[:, queries])
        shape = grads[0].shape
        return (
            grad_q.view(shape), grad_k.to(k.dtype).view(shape), grad_v.to(v.dtype).view(shape), None, None,
        )  # fmt: skip


def _chunks(length: int, window: int) -> Iterator[tuple[slice, slice]]:
    """Queries, and the keys that at least one of them sees."""
    for start in range(0, length, CHUNK_QUERIES):
        stop = min(start + CHUNK_QUERIES, length)
        yield slice(start, stop), slice(max(0, start - window), stop)


@functools.lru_cache(64)
def hidden(queries: int, keys: int, window: int, device: torch.device) -> Tensor:
    """True where one of the last ``queries`` of ``keys`` tokens must not see a key, (queries, keys)."""
    position = torch.arange(keys, device=device)
    back = position[-queries:, None] - position
    return (back < 0) | (back > window)
