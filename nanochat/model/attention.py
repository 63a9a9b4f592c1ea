"""Causal self-attention with rotary positions, normalised queries and keys, and optional windows.

Shapes: B rows, T tokens, H heads, D head channels, C width, S cached tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat.config.model import ModelConfig
from nanochat.model.attend import attend
from nanochat.model.fused import rotate_and_norm, squared_relu_linear
from nanochat.model.kv_cache import LayerCache

VALUE_GATE_CHANNELS = 12


class Linear(nn.Linear):
    """A bias-free matrix kept in fp32 and multiplied in the dtype of its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class SquaredReLULinear(Linear):
    """A ``Linear`` whose input goes through relu^2 first."""

    def forward(self, x: Tensor) -> Tensor:
        return squared_relu_linear(x, self.weight)


def rotary_tables(length: int, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary embedding (Su et al., 2021), each (length, head_dim / 2) fp32."""
    frequency = base ** -(torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle_TD = torch.outer(torch.arange(length, dtype=torch.float32), frequency)
    return angle_TD.cos(), angle_TD.sin()


class CausalSelfAttention(nn.Module):
    """Attention of one layer. With ``cache`` the keys and values of earlier tokens come from there.

    Without, and with ``documents_BT``, a token sees those of its own document; a cache row holds only one.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer, self.window = config, layer, config.window(layer)
        kv_width = config.num_kv_heads * config.head_dim
        self.query = Linear(config.width, config.width)
        self.key = Linear(config.width, kv_width)
        self.value = Linear(config.width, kv_width)
        self.out = Linear(config.width, config.width)
        gated = config.has_value_embedding(layer)
        self.value_gate = Linear(VALUE_GATE_CHANNELS, config.num_kv_heads) if gated else None
        self.attend = attend

    def forward(
        self,
        x_BTC: Tensor,
        value_embedding_BTC: Tensor | None,
        cos_sin: tuple[Tensor, Tensor],
        cache: LayerCache | None = None,
        documents_BT: Tensor | None = None,
    ) -> Tensor:
        config = self.config
        rows, length, _ = x_BTC.shape
        q = self.query(x_BTC).view(rows, length, config.num_heads, config.head_dim)
        k = self.key(x_BTC).view(rows, length, config.num_kv_heads, config.head_dim)
        v = self.value(x_BTC).view(rows, length, config.num_kv_heads, config.head_dim)
        if self.value_gate is not None and value_embedding_BTC is not None:
            gate_BTH = 3 * torch.sigmoid(self.value_gate(x_BTC[..., :VALUE_GATE_CHANNELS]))
            v = v + gate_BTH.unsqueeze(-1) * value_embedding_BTC.view_as(v)
        q, k = (rotate_and_norm(x, *cos_sin, config.qk_scale) for x in (q, k))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if cache is None:
            y_BHTD = self.attend(q, k, v, self.window, documents_BT, packed=length == config.seq_len)
        else:
            k, v, mask = cache.append(k, v)
            grouped = config.num_kv_heads != config.num_heads
            y_BHTD = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None and length > 1, enable_gqa=grouped
            )
        return self.out(y_BHTD.transpose(1, 2).reshape(rows, length, config.width))
