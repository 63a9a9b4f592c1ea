"""Keys and values of tokens already seen, one region a row, rows of different lengths.

Shapes: L layers, R rows of the cache, N rows of one call, H key-value heads, S slots, D head channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class KVCache:
    """Room for ``rows`` sequences of up to ``max_tokens``; a call may touch any subset of the rows."""

    def __init__(
        self, layers: int, rows: int, heads: int, max_tokens: int, head_dim: int, width: int,
        dtype: torch.dtype, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self.max_tokens = max_tokens
        shape = (layers, rows, heads, max_tokens, head_dim)
        self.keys_LRHSD = torch.zeros(shape, dtype=dtype, device=device)
        self.values_LRHSD = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths_R = torch.zeros(rows, dtype=torch.int64, device=device)
        # the smear gate needs the embedding of the token before
        self.previous_embedding_RC = torch.zeros(rows, width, dtype=dtype, device=device)

    def reset(self, rows_N: Tensor) -> None:
        """Forget the given rows, so that new prompts can use them."""
        self.lengths_R[rows_N] = 0

    def layer(self, layer: int, rows_N: Tensor) -> LayerCache:
        """The view that attention of ``layer`` uses during one call."""
        return LayerCache(self, layer, rows_N)


@dataclass(frozen=True)
class LayerCache:
    """One layer's keys and values for the rows of one call."""

    cache: KVCache
    layer: int
    rows_N: Tensor

    def append(self, k_NHTD: Tensor, v_NHTD: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store T new tokens a row; return all keys, values and the visibility mask (N, 1, T, S) or None.

        T > 1 is a prefill of empty rows, where plain causal attention over the new tokens is exact.
        """
        cache, length = self.cache, k_NHTD.size(2)
        keys, values = cache.keys_LRHSD[self.layer], cache.values_LRHSD[self.layer]
        if length > 1:
            keys[self.rows_N, :, :length] = k_NHTD
            values[self.rows_N, :, :length] = v_NHTD
            return k_NHTD, v_NHTD, _prefill_mask(length, window, k_NHTD.device)
        position_N = cache.lengths_R[self.rows_N]
        keys[self.rows_N, :, position_N] = k_NHTD[:, :, 0]
        values[self.rows_N, :, position_N] = v_NHTD[:, :, 0]
        used = int(position_N.max()) + 1
        back_NS = position_N[:, None] - torch.arange(used, device=position_N.device)[None, :]
        mask = (back_NS >= 0) & (back_NS <= window)
        return keys[self.rows_N, :, :used], values[self.rows_N, :, :used], mask[:, None, None, :]


def _prefill_mask(length: int, window: int, device: torch.device) -> Tensor | None:
    if length <= window:
        return None
    position = torch.arange(length, device=device)
    back = position[:, None] - position[None, :]
    return (back >= 0) & (back <= window)
