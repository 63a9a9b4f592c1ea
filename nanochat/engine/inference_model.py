"""A GPT that only reads and writes tokens: the same function as ``nanochat.model.gpt.GPT``, made to be fast.

What depends on a token alone is looked up instead of computed (its normalised embedding, its smear gate), all
products with one input are one matrix, and the last layer and the head work for the last token only, since
no other logits are asked for. Matrices are kept once, in the format that ``matrices.py`` names.

Shapes: N rows of one call, T new tokens a row, M = N * T, C width, H query heads, G key-value heads,
D head channels, S cached tokens, V vocabulary.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.engine.matrices import BYTES, Matrix, WeightFormat, activation_dtype, best_format, matrix
from nanochat.model.attention import VALUE_GATE_CHANNELS, rotary_tables
from nanochat.model.cost import parameters
from nanochat.model.fused import EPS, norm
from nanochat.model.gpt import GPT, SMEAR_CHANNELS, Block
from nanochat.model.kv_cache import KVCache, LayerCache, Reading


@dataclass(frozen=True)
class _Layer:
    """One block. ``inputs`` gives queries, keys, values and value gates of all heads, side by side.

    ``up`` is with its ReLU.
    """

    inputs: Matrix
    out: Matrix
    up: Matrix
    down: Matrix
    value_table: Tensor | None
    scale: float
    skip: float


class InferenceModel:
    """A decoder (``nanochat.engine.generate.Decoder``) with weights of its own, taken from ``model``.

    ``kept_as``: the number format of the matrices, by default the best of the machine.
    """

    @torch.no_grad()
    def __init__(self, model: GPT, kept_as: WeightFormat | None = None) -> None:
        self.config, self.device = model.config, model.device
        self.kept_as: WeightFormat = kept_as or best_format(self.device)
        self.dtype = activation_dtype(self.kept_as)
        config = self.config
        embedding_VC = norm(model.embedding.weight.to(self.dtype))
        self._embedding_VC = embedding_VC
        self._smear_V1: Tensor | None = None
        if config.smear:
            gate = torch.sigmoid(model.smear_gate(embedding_VC[:, :SMEAR_CHANNELS]))
            self._smear_V1 = model.smear_scale.to(self.dtype) * gate
        self._layers = [self._layer(model, block, i) for i, block in enumerate(model.blocks)]
        self._backout = float(model.backout_scale) if config.backout else 0.0
        # logits are capped by the sigmoid, four times as fast: tanh(y) = 2 sigmoid(2 y) - 1
        head_scale = 2 / config.softcap * config.width**0.5
        self._least_logit = torch.tensor(-float(config.softcap), device=self.device)
        self._head = matrix(model.head.weight[: config.vocab_size] * head_scale, self.kept_as)
        self._rotary = self._rotary_tables(config.seq_len)

    def _layer(self, model: GPT, block: Block, number: int) -> _Layer:
        config, attention = self.config, block.attention
        parts = [attention.query.weight, attention.key.weight, attention.value.weight]
        table = None
        if attention.value_gate is not None:
            table = model.value_embeddings[str(number)].weight.to(self.dtype)
            parts.append(F.pad(attention.value_gate.weight, (0, config.width - VALUE_GATE_CHANNELS)))
        scaled = config.residual_scalars
        norm_scale = config.width**0.5  # what ``_unit`` leaves out of the norm
        return _Layer(
            matrix(torch.cat(parts) * norm_scale, self.kept_as), matrix(attention.out.weight, self.kept_as),
            matrix(block.mlp.up.weight * norm_scale, self.kept_as, relu=True),
            matrix(block.mlp.down.weight, self.kept_as), table,
            float(model.residual_scale[number]) if scaled else 1.0,
            float(model.skip_scale[number]) if scaled else 0.0,
        )  # fmt: skip

    @property
    def bytes_a_step(self) -> int:
        """Of all matrices: what one step of decoding reads, beside the cache."""
        return parameters(self.config).multiplying * BYTES[self.kept_as]

    def new_cache(self, rows: int, max_tokens: int) -> KVCache:
        """An empty cache for decoding ``rows`` sequences of at most ``max_tokens``."""
        return KVCache(self.config, rows, max_tokens, self.dtype, self.device)

    def prefill(self, tokens_NT: Tensor, cache: KVCache, rows_N: Tensor) -> Tensor:
        """Read T more tokens in each of the rows, after those they hold; logits (N, V) of the last token."""
        logits_NV = torch.empty(len(tokens_NT), self.config.vocab_size, device=self.device)
        with torch.inference_mode():  # faster than no_grad; the logits stay an ordinary tensor
            self._read(tokens_NT, cache, rows_N, logits_NV)
        return logits_NV

    def decode(self, tokens_N: Tensor, cache: KVCache, rows_N: Tensor) -> Tensor:
        """Read one more token in each of the rows; logits (N, V)."""
        return self.prefill(tokens_N[:, None], cache, rows_N)

    def _read(self, tokens_NT: Tensor, cache: KVCache, rows_N: Tensor, logits_NV: Tensor) -> None:
        """Fill ``logits_NV``."""
        config, rows = self.config, len(tokens_NT)
        reading = cache.begin(tokens_NT, rows_N)
        x = x0 = self._embed(tokens_NT, reading)
        rotary = self._rotary_of(reading)
        middle = x
        for number, layer in enumerate(self._layers):
            if config.residual_scalars:
                x = (x * layer.scale).add_(x0, alpha=layer.skip)
            last = number == config.depth - 1
            x = self._block(x, layer, rotary, reading.layer(number), tokens_NT, last)
            if number == config.depth // 2:
                middle = x
        if config.backout:
            x = x - self._backout * middle.view(rows, -1, config.width)[:, -1]
        reading.end()
        half_NV = self._head(_unit(x)).float().sigmoid_()
        torch.add(self._least_logit, half_NV, alpha=2 * config.softcap, out=logits_NV)

    def _embed(self, tokens_NT: Tensor, reading: Reading) -> Tensor:
        """Embeddings (M, C), each with its share of the token before."""
        x_NTC = F.embedding(tokens_NT, self._embedding_VC)
        if self._smear_V1 is not None:
            gate_NT1 = F.embedding(tokens_NT, self._smear_V1)
            before_NT = reading.previous_tokens_N()[:, None]
            if tokens_NT.size(1) > 1:
                before_NT = torch.cat((before_NT, tokens_NT[:, :-1]), dim=1)
            if 0 in reading.starts:
                gate_NT1[:, 0] *= (reading.start_N > 0)[:, None]
            x_NTC = torch.addcmul(x_NTC, gate_NT1, F.embedding(before_NT, self._embedding_VC))
        return x_NTC.view(-1, self.config.width)

    def _block(
        self, x: Tensor, layer: _Layer, rotary: tuple[Tensor, Tensor], cache: LayerCache,
        tokens_NT: Tensor, last: bool,
    ) -> Tensor:  # fmt: skip
        """The block's output (M, C); of the ``last`` layer, (N, C) for the last token of each row."""
        config, (rows, length) = self.config, tokens_NT.shape
        heads, groups, channels = config.num_heads, config.num_kv_heads, config.head_dim
        inputs = layer.inputs(_unit(x)).view(rows, length, -1)
        qk_NTHD = inputs[..., : (heads + groups) * channels].unflatten(-1, (-1, channels))
        qk_NTHD = _rotate_and_norm(qk_NTHD, *rotary)
        values_end = (heads + 2 * groups) * channels
        v_NTGD = inputs[..., (heads + groups) * channels : values_end].unflatten(-1, (groups, channels))
        if layer.value_table is not None:
            gate = torch.sigmoid(inputs[..., values_end:]).unsqueeze(-1)
            extra = F.embedding(tokens_NT, layer.value_table).view_as(v_NTGD)
            v_NTGD = torch.addcmul(v_NTGD, gate, extra, value=3)
        q_NHTD, k_NGTD = qk_NTHD[:, :, :heads].transpose(1, 2), qk_NTHD[:, :, heads:].transpose(1, 2)
        if last and length > 1:
            q_NHTD = q_NHTD[:, :, -1:]
            x = x.view(rows, length, -1)[:, -1]
        attended = _attend(q_NHTD, k_NGTD, v_NTGD.transpose(1, 2), cache)
        x = x + layer.out(attended.transpose(1, 2).reshape(len(x), -1))
        wide = layer.up(_unit(x))
        return x.add_(layer.down(wide.mul_(wide)))

    def _rotary_of(self, reading: Reading) -> tuple[Tensor, Tensor]:
        if (last := max(reading.starts) + reading.position_NT.size(1)) > len(self._rotary[0]):
            self._rotary = self._rotary_tables(2 * last)
        cos, sin = self._rotary
        return cos[reading.position_NT].unsqueeze(2), sin[reading.position_NT].unsqueeze(2)

    def _rotary_tables(self, length: int) -> tuple[Tensor, Tensor]:
        """For whole heads: (cos, cos) and (sin, -sin), times the factors on unit queries and keys.

        Of 1 / sqrt(head_dim), by which attention scales their product, each has its half.
        """
        cos, sin = rotary_tables(length, self.config.head_dim, self.config.rope_base)
        scale = self.config.qk_scale * self.config.head_dim**0.25
        options: Any = {"dtype": self.dtype, "device": self.device}
        return (
            torch.cat((cos, cos), dim=-1).mul_(scale).to(**options),
            torch.cat((sin, -sin), dim=-1).mul_(scale).to(**options),
        )


def _unit(x: Tensor) -> Tensor:
    """RMSNorm over the last dimension, less the factor sqrt(size), which the next matrix has.

    Three small operations instead of five, and the same as ``fused.norm`` in exact arithmetic.
    """
    wide = None if x.dtype == torch.float32 else torch.float32  # None is the faster one
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    return (x / length.hypot_(_least(x.size(-1), x.device))).to(x.dtype)


@functools.cache
def _least(size: int, device: torch.device) -> Tensor:
    """sqrt(size * EPS): the length that is added, at a right angle."""
    return torch.full((), (size * EPS) ** 0.5, device=device)


def _rotate_and_norm(x_NTHD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Norm and rotate; in either order the same, since a rotation changes no length."""
    x_NTHD = _unit(x_NTHD)
    return (x_NTHD * cos).addcmul_(x_NTHD.roll(x_NTHD.size(-1) // 2, -1), sin)


def _attend(q_NHTD: Tensor, k_NGTD: Tensor, v_NGTD: Tensor, cache: LayerCache) -> Tensor:
    """Attention of the new tokens (N, H, T, D), or of the last of them if only its query is given."""
    grouped = q_NHTD.size(1) != k_NGTD.size(1)
    common = cache.common() if k_NGTD.size(2) == 1 else None
    k, v, mask = cache.append(k_NGTD, v_NGTD, after=0 if common is None else common[0].size(1))
    if q_NHTD.size(2) == 1:
        return _attend_once(q_NHTD, k, v, None if mask is None else mask[..., -1:, :], common)
    return F.scaled_dot_product_attention(
        q_NHTD, k, v, attn_mask=mask, is_causal=mask is None, scale=1.0, enable_gqa=grouped
    )


def _attend_once(
    q_NH1D: Tensor, k_NGSD: Tensor, v_NGSD: Tensor, mask: Tensor | None, common: tuple[Tensor, Tensor] | None
) -> Tensor:
    """One query a row and head, by plain products: on a CPU five times as fast as the fused kernel.

    ``common``: keys and values (G, P, D) that come before, of all rows. They are read once instead of once a
    row, as in Hydragen (Juravsky et al., 2024), but under one softmax.
    """
    rows, heads, _, channels = q_NH1D.shape
    groups, keys = k_NGSD.shape[1:3]
    q_NGQD = q_NH1D.reshape(rows, groups, heads // groups, channels)
    scores = torch.bmm(q_NGQD.flatten(0, 1), k_NGSD.flatten(0, 1).transpose(1, 2))
    if mask is not None:
        mask = mask if mask.dim() == 4 else mask[None, None]
        scores.view(rows, groups, -1, keys).masked_fill_(~mask, -torch.inf)
    if common is None:
        return torch.bmm(scores.softmax(-1), v_NGSD.flatten(0, 1)).view(rows, heads, 1, channels)
    k_GPD, v_GPD = common
    of_common = torch.bmm(_rows_last(q_NGQD), k_GPD.transpose(1, 2)).view(groups, rows, heads // groups, -1)
    scores = torch.cat((of_common.transpose(0, 1).flatten(0, 1), scores), dim=-1)
    weights = scores.softmax(-1).split((k_GPD.size(1), keys), dim=-1)
    own = torch.bmm(weights[1], v_NGSD.flatten(0, 1)).view(rows, groups, -1, channels)
    of_common = torch.bmm(_rows_last(weights[0].view(rows, groups, heads // groups, -1)), v_GPD)
    both = own + of_common.view(groups, rows, -1, channels).transpose(0, 1)
    return both.reshape(rows, heads, 1, channels)


def _rows_last(x_NGQD: Tensor) -> Tensor:
    """(N, G, Q, D) as (G, N * Q, D)."""
    return x_NGQD.transpose(0, 1).flatten(1, 2)
