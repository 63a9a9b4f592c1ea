"""The GPT: token ids in, logits or a loss out.

Decisions, after nanochat of July 2026: rotary positions and no position table; queries and keys
normalised; embedding and head untied; relu^2 MLP; RMSNorm without gain, also after the embedding; no
biases; logits capped by tanh; learned residual and skip scalars a layer; gated value embeddings on
every second layer (Zhou et al., 2024); "smear", a gate to the previous token's embedding; "backout",
the mid-depth residual subtracted before the head. ``ModelConfig`` switches each of them off for the
classic model of December 2025.

Shapes: B rows, T tokens, C width, V vocabulary, N rows of one decoding call.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nanochat.config.model import ModelConfig
from nanochat.model.attend import allow_variants, attend
from nanochat.model.attention import CausalSelfAttention, Linear, SquaredReLULinear, rotary_tables
from nanochat.model.fused import norm
from nanochat.model.kv_cache import KVCache, LayerCache, Reading
from nanochat.model.loss import token_nll, weighted_cross_entropy

SMEAR_CHANNELS = 24


class MLP(nn.Module):
    """Two matrices with relu^2 between (So et al., 2021)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = Linear(config.width, 4 * config.width)
        self.down = SquaredReLULinear(4 * config.width, config.width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down(self.up(x_BTC))


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention = CausalSelfAttention(config, layer)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        value_embedding: Tensor | None,
        cos_sin: tuple[Tensor, Tensor],
        cache: LayerCache | None,
        documents_BT: Tensor | None,
    ) -> Tensor:
        x = x + self.attention(norm(x), value_embedding, cos_sin, cache, documents_BT)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    """A decoder-only transformer. Parameters are fp32; matmuls run in ``compute_dtype``."""

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.compute_dtype = config, compute_dtype
        vocab, kv_width = config.padded_vocab_size, config.num_kv_heads * config.head_dim
        self.embedding = nn.Embedding(vocab, config.width)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.depth))
        self.head = Linear(config.width, vocab)
        layers = range(config.depth)
        self.value_embeddings = nn.ModuleDict(
            {str(i): nn.Embedding(vocab, kv_width) for i in layers if config.has_value_embedding(i)}
        )
        if config.residual_scalars:
            self.residual_scale = nn.Parameter(torch.empty(config.depth))
            self.skip_scale = nn.Parameter(torch.empty(config.depth))
        if config.smear:
            self.smear_gate = Linear(SMEAR_CHANNELS, 1)
            self.smear_scale = nn.Parameter(torch.empty(1))
        if config.backout:
            self.backout_scale = nn.Parameter(torch.empty(1))
        self.compiled = False
        self.checkpointing = False  # keep each block's input alone, and run the block again for its gradients
        self._cos_sin: tuple[Tensor, Tensor] | None = None

    def compile_parts(self) -> None:
        """Compile the blocks, around attention, whose kernels are what they are, and the loss; in place.

        Blocks of one kind share one compilation. For batches of one shape: others compile again.
        """
        self.compiled = True
        allow_variants()
        as_it_is = torch.compiler.disable(attend)
        for block in self.blocks:
            block.attention.attend = as_it_is
            block.compile(dynamic=False)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Initialise every parameter: bounded uniform inside, zero output projections, a small head."""
        config, bound = self.config, (3 / self.config.width) ** 0.5
        self.embedding.weight.normal_(0.0, config.embedding_std, generator=generator)
        self.head.weight.normal_(0.0, 0.001, generator=generator)
        for block in self.blocks:
            attention = block.attention
            for matrix in (attention.query, attention.key, attention.value):
                matrix.weight.uniform_(-bound, bound, generator=generator)
            scale = bound * config.mlp_init_scale
            block.mlp.up.weight.uniform_(-scale, scale, generator=generator)
            attention.out.weight.zero_()
            block.mlp.down.weight.zero_()
            if attention.value_gate is not None:
                attention.value_gate.weight.uniform_(0.0, 0.02, generator=generator)
        for table in self.value_embeddings.values():
            table.weight.uniform_(-bound, bound, generator=generator)
        if config.residual_scalars:
            share = torch.arange(config.depth) / max(config.depth - 1, 1)
            self.residual_scale.copy_(1.15 - 0.10 * share)
            self.skip_scale.copy_(0.20 - 0.15 * share)
        if config.smear:
            self.smear_gate.weight.uniform_(0.0, 0.02, generator=generator)
            self.smear_scale.zero_()
        if config.backout:
            self.backout_scale.fill_(0.2)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embedding.weight.device

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V) in fp32."""
        return self._logits(self.hidden(tokens_BT))

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor, weights_BT: Tensor | None = None) -> Tensor:
        """Cross-entropy in nats: the mean over targets >= 0, or the sum weighted by ``weights_BT``."""
        if weights_BT is None:
            supervised = (targets_BT >= 0).float()
            weights_BT = supervised / supervised.sum().clamp_min(1)
        x_NC = self.hidden(tokens_BT).flatten(0, 1)
        return weighted_cross_entropy(
            x_NC, self.head.weight, targets_BT.flatten(), weights_BT.flatten(),
            self.config.softcap, self.config.vocab_size, self.compiled,
        )  # fmt: skip

    @torch.no_grad()
    def token_nll(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """-log p(target) in nats, (B, T) fp32, 0 where the target is -1; for evaluation, no gradients."""
        x_NC = self.hidden(tokens_BT).flatten(0, 1)
        config = self.config
        nll_N = token_nll(x_NC, self.head.weight, targets_BT.flatten(), config.softcap, config.vocab_size)
        return nll_N.view_as(targets_BT)

    def new_cache(self, rows: int, max_tokens: int) -> KVCache:
        """An empty cache for decoding ``rows`` sequences of at most ``max_tokens``."""
        return KVCache(self.config, rows, max_tokens, self.compute_dtype, self.device)

    def prefill(self, tokens_NT: Tensor, cache: KVCache, rows_N: Tensor) -> Tensor:
        """Read T more tokens in each of the rows, after those they hold; logits (N, V) of the last token."""
        return self._logits(self.hidden(tokens_NT, cache, rows_N)[:, -1])

    def decode(self, tokens_N: Tensor, cache: KVCache, rows_N: Tensor) -> Tensor:
        """Read one more token in each of the rows; logits (N, V)."""
        return self._logits(self.hidden(tokens_N[:, None], cache, rows_N)[:, -1])

    def hidden(self, tokens_BT: Tensor, cache: KVCache | None = None, rows: Tensor | None = None) -> Tensor:
        """The normalised residual stream (B, T, C) that the head reads, in the compute dtype."""
        config, length = self.config, tokens_BT.size(1)
        reading = cache.begin(tokens_BT, rows) if cache is not None and rows is not None else None
        x = self._embed(tokens_BT)
        begins_BT = tokens_BT == config.bos if config.document_mask and reading is None else None
        documents_BT = None if begins_BT is None else begins_BT.cumsum(1)
        x = self._smear(x, reading, begins_BT)
        cos_sin = self._positions(length, reading)
        x0, middle = x, None
        for layer, block in enumerate(self.blocks):
            if config.residual_scalars:
                scales = self.residual_scale[layer], self.skip_scale[layer]
                x = scales[0].to(x.dtype) * x + scales[1].to(x.dtype) * x0
            table = self.value_embeddings[str(layer)] if config.has_value_embedding(layer) else None
            value_embedding = table(tokens_BT).to(x.dtype) if table is not None else None
            layer_cache = reading.layer(layer) if reading is not None else None
            given = x, value_embedding, cos_sin, layer_cache, documents_BT
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, *given, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(*given)
            if layer == config.depth // 2:
                middle = x
        if config.backout and middle is not None:
            x = x - self.backout_scale.to(x.dtype) * middle
        if reading is not None:
            reading.end()
        return norm(x)

    def _embed(self, tokens: Tensor) -> Tensor:
        return norm(F.embedding(tokens, self.embedding.weight).to(self.compute_dtype))

    def _smear(self, x_BTC: Tensor, reading: Reading | None, begins_BT: Tensor | None) -> Tensor:
        """Add a gated share of the previous token's embedding to each token but the first of a sequence.

        Nor to those of ``begins_BT``, which begin a document.
        """
        if not self.config.smear:
            return x_BTC
        gate = self.smear_scale.to(x_BTC.dtype) * torch.sigmoid(self.smear_gate(x_BTC[..., :SMEAR_CHANNELS]))
        before = F.pad(x_BTC[:, :-1], (0, 0, 1, 0))
        if begins_BT is not None:
            before = before.masked_fill(begins_BT.unsqueeze(-1), 0)
        if reading is not None and any(reading.starts):
            first = self._embed(reading.previous_tokens_N())
            before[:, 0] = torch.where((reading.start_N > 0)[:, None], first, 0)
        return x_BTC + gate * before

    def _positions(self, length: int, reading: Reading | None) -> tuple[Tensor, Tensor]:
        """Rotary cos and sin as (B|1, T, 1, D/2) for the positions of this call."""
        last = length + (max(reading.starts) if reading is not None else 0)
        if self._cos_sin is None or self._cos_sin[0].size(0) < last or self._cos_sin[0].device != self.device:
            tables = rotary_tables(
                max(last, self.config.seq_len), self.config.head_dim, self.config.rope_base
            )
            self._cos_sin = tuple(t.to(self.device, self.compute_dtype) for t in tables)
        cos, sin = self._cos_sin
        if reading is None:
            return cos[None, :length, None], sin[None, :length, None]
        return cos[reading.position_NT].unsqueeze(2), sin[reading.position_NT].unsqueeze(2)

    def _logits(self, x: Tensor) -> Tensor:
        softcap = self.config.softcap
        return softcap * torch.tanh(self.head(x)[..., : self.config.vocab_size].float() / softcap)
