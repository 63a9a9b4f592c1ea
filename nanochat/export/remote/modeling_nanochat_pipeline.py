"""A model made with nanochat-pipeline, for transformers (``trust_remote_code=True``): the same logits.

Shapes: B rows, T tokens of this call, S tokens with those of the cache, C width, H heads, D head channels.
"""

from dataclasses import fields

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_nanochat_pipeline import NanoChatPipelineConfig

EPS = torch.finfo(torch.float32).eps
VALUE_GATE_CHANNELS = 12
SMEAR_CHANNELS = 24
# What transformers calls the cache; it was past_key_values once.
CACHE = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"


def norm(x):
    """RMSNorm without gain, in fp32."""
    exact = x.float()
    return (exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + EPS)).to(x.dtype)


def matrix(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config, self.layer = config, layer
        self.head_dim = config.width // config.num_heads
        kv_width = config.num_kv_heads * self.head_dim
        self.query = matrix(config.width, config.width)
        self.key = matrix(config.width, kv_width)
        self.value = matrix(config.width, kv_width)
        self.out = matrix(config.width, config.width)
        gated = config.has_value_embedding(layer)
        self.value_gate = matrix(VALUE_GATE_CHANNELS, config.num_kv_heads) if gated else None

    def forward(self, x, value_embedding, angles, visible, cache):
        rows, length, width = x.shape
        q, k, v = (
            part(x).view(rows, length, -1, self.head_dim) for part in (self.query, self.key, self.value)
        )
        if self.value_gate is not None:
            gate = 3 * torch.sigmoid(self.value_gate(x[..., :VALUE_GATE_CHANNELS]))
            v = v + gate.unsqueeze(-1) * value_embedding.view_as(v)
        q, k = (self.rotate_and_norm(part, *angles).transpose(1, 2) for part in (q, k))
        v = v.transpose(1, 2)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        grouped = self.config.num_kv_heads != self.config.num_heads
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=grouped)
        return self.out(y.transpose(1, 2).reshape(rows, length, width))

    def rotate_and_norm(self, x, cos, sin):
        """Rotate channel pairs (i, i + D/2) by the position's angle, norm, scale."""
        first, second = x.chunk(2, dim=-1)
        rotated = torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)
        return norm(rotated) * self.config.qk_scale


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.up = matrix(config.width, 4 * config.width)
        self.down = matrix(4 * config.width, config.width)

    def forward(self, x):
        return self.down(self.up(x).relu().square())


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.attention = Attention(config, layer)
        self.mlp = MLP(config)

    def forward(self, x, *context):
        x = x + self.attention(norm(x), *context)
        return x + self.mlp(norm(x))


class NanoChatPipelineForCausalLM(PreTrainedModel, GenerationMixin):
    """The whole model. Rows may be padded on the left, where ``attention_mask`` says so."""

    config_class = NanoChatPipelineConfig
    _no_split_modules = ["Block"]  # noqa: RUF012
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        vocab = -(-config.vocab_size // 64) * 64
        kv_width = config.num_kv_heads * config.width // config.num_heads
        self.embedding = nn.Embedding(vocab, config.width)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.depth))
        self.head = matrix(config.width, vocab)
        layers = [layer for layer in range(config.depth) if config.has_value_embedding(layer)]
        self.value_embeddings = nn.ModuleDict({str(layer): nn.Embedding(vocab, kv_width) for layer in layers})
        if config.residual_scalars:
            self.residual_scale = nn.Parameter(torch.ones(config.depth))
            self.skip_scale = nn.Parameter(torch.zeros(config.depth))
        if config.smear:
            self.smear_gate = matrix(SMEAR_CHANNELS, 1)
            self.smear_scale = nn.Parameter(torch.zeros(1))
        if config.backout:
            self.backout_scale = nn.Parameter(torch.zeros(1))
        self.post_init()

    def get_input_embeddings(self):
        return self.embedding

    def set_input_embeddings(self, value):
        self.embedding = value

    def get_output_embeddings(self):
        return self.head

    def prepare_inputs_for_generation(self, input_ids, *args, **kwargs):
        """As always, and with the token before those that are new, which smear looks at."""
        inputs = super().prepare_inputs_for_generation(input_ids, *args, **kwargs)
        new = inputs["input_ids"].shape[1]
        if new < input_ids.shape[1]:
            inputs["previous_ids"] = input_ids[:, -new - 1]
        return inputs

    def forward(
        self,
        input_ids,
        attention_mask=None,
        cache=None,
        past_key_values=None,
        previous_ids=None,
        labels=None,
        use_cache=None,
        logits_to_keep=0,
        **kwargs,
    ):
        """Logits (B, T, V) in fp32. ``attention_mask`` (B, S): 0 for padding. ``previous_ids`` (B,): the last
        tokens that the cache holds, for models with smear; ``generate`` gives them. With a document mask, a
        cache holds one document: what is read after it belongs to it, even a <|bos|>.
        """
        cache = cache if cache is not None else past_key_values
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        x = self.hidden(input_ids, attention_mask, cache, previous_ids)
        if isinstance(logits_to_keep, int):
            logits_to_keep = slice(-logits_to_keep, None)
        cap = self.config.softcap
        logits = cap * torch.tanh(
            self.head(x[:, logits_to_keep])[..., : self.config.vocab_size].float() / cap
        )
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: cache})

    def hidden(self, ids, attention_mask, cache, previous_ids):
        """The normalised residual stream (B, T, C) that the head reads."""
        config, length = self.config, ids.shape[1]
        past = cache.get_seq_length() if cache is not None else 0
        begins = ids == config.bos_token_id if config.document_mask and not past else None
        if attention_mask is None:
            attention_mask = ids.new_ones(ids.shape[0], past + length)
        padding = attention_mask[:, : past + length] == 0
        if cache is not None and begins is not None and (begins[:, 1:] & ~padding[:, :-1]).any():
            raise ValueError("<|bos|> within a row begins another document: say use_cache=False")
        x = norm(self.embedding(ids))
        if config.smear:
            x = self.smeared(x, padding, previous_ids, past, begins)
        angles = self.angles(past, length, x)
        masks = {}
        start, middle = x, None
        for layer, block in enumerate(self.blocks):
            if config.residual_scalars:
                x = self.residual_scale[layer] * x + self.skip_scale[layer] * start
            values = self.value_embeddings[str(layer)](ids) if config.has_value_embedding(layer) else None
            window = config.window(layer)
            if window not in masks:
                masks[window] = visible(window, past, length, padding, begins)
            x = block(x, values, angles, masks[window], cache)
            if layer == config.depth // 2:
                middle = x
        if config.backout:
            x = x - self.backout_scale * middle
        return norm(x)

    def smeared(self, x, padding, previous_ids, past, begins):
        """Add a gated share of the previous token's embedding, if it is of the same text."""
        if past and previous_ids is None:
            raise ValueError("a cache was given without previous_ids, the last tokens that it holds")
        before = F.pad(x[:, :-1], (0, 0, 1, 0))
        if past:
            before = torch.cat((norm(self.embedding(previous_ids))[:, None], x[:, :-1]), dim=1)
        hidden = F.pad(padding, (1, 0), value=True)[:, past : past + x.shape[1]]
        if begins is not None:
            hidden = hidden | begins
        gate = self.smear_scale * torch.sigmoid(self.smear_gate(x[..., :SMEAR_CHANNELS]))
        return x + gate * before.masked_fill(hidden.unsqueeze(-1), 0)

    def angles(self, past, length, x):
        """Rotary cos and sin, each (T, 1, D/2)."""
        head_dim = self.config.width // self.config.num_heads
        channel = torch.arange(0, head_dim, 2, dtype=torch.float32, device=x.device)
        position = torch.arange(past, past + length, dtype=torch.float32, device=x.device)
        angle = torch.outer(position, self.config.rope_base ** -(channel / head_dim))
        return angle.cos().to(x.dtype).unsqueeze(1), angle.sin().to(x.dtype).unsqueeze(1)


def visible(window, past, length, padding, begins):
    """Which tokens each token sees, (B, 1, T, S): itself, and others of its text within the window."""
    position = torch.arange(past + length, device=padding.device)
    back = position[past:, None] - position[None, :]
    seen = ((back >= 0) & (back <= window)) & ~padding[:, None, :]
    if begins is not None:
        document = begins.cumsum(1)
        seen = seen & (document[:, :, None] == document[:, None, :])
    return (seen | (back == 0)).unsqueeze(1)
