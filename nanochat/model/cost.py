"""What a model costs, computed from its shape alone: parameters, FLOPs, bytes, hours and dollars.

Nothing is built and torch is not loaded; a test holds the counts equal to the real model's. Memory of a
training step is in ``memory.py``, what GPUs can do in ``hardware.py``.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from nanochat.config.model import ModelConfig

VALUE_GATE_CHANNELS = 12  # as in attention.py, which loads torch
SMEAR_CHANNELS = 24  # as in gpt.py, likewise
CACHE_SLACK_TOKENS = 64  # as in kv_cache.py, likewise


@dataclass(frozen=True)
class Parameters:
    """How many numbers each group of a model holds. Tables are looked up; matrices and gates multiply."""

    embedding: int
    value_embeddings: int
    attention: int
    mlp: int
    gates: int
    head: int
    scalars: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(astuple(self))

    @property
    def matrices(self) -> int:
        """Those of the blocks."""
        return self.attention + self.mlp

    @property
    def multiplying(self) -> int:
        """Those that every token is multiplied with."""
        return self.matrices + self.gates + self.head


def parameters(model: ModelConfig) -> Parameters:
    """The parameters of a model of this shape."""
    kv_width = model.num_kv_heads * model.head_dim
    gated = gated_layers(model)
    table = model.padded_vocab_size
    return Parameters(
        embedding=table * model.width,
        value_embeddings=gated * table * kv_width,
        attention=model.depth * 2 * model.width * (model.width + kv_width),
        mlp=model.depth * 8 * model.width**2,
        gates=gated * VALUE_GATE_CHANNELS * model.num_kv_heads + (SMEAR_CHANNELS if model.smear else 0),
        head=table * model.width,
        scalars=(2 * model.depth if model.residual_scalars else 0) + model.smear + model.backout,
    )


def gated_layers(model: ModelConfig) -> int:
    """How many layers have value embeddings."""
    return sum(model.has_value_embedding(layer) for layer in range(model.depth))


def flops_per_token(model: ModelConfig) -> int:
    """FLOPs of training on one token, forward and backward.

    6 for every parameter that multiplies (2 forward, 4 backward), and 12 · width · window a layer for
    queries on keys and weights on values (Chowdhery et al., PaLM, 2022, appendix B), where a position
    looks back over the layer's window. Norms, softmax and look-ups are not counted, as in nanochat.
    """
    attention = sum(12 * model.width * model.window(layer) for layer in range(model.depth))
    return 6 * parameters(model).multiplying + attention


def kv_cache_bytes(model: ModelConfig, rows: int, tokens: int, number_bytes: int) -> int:
    """Bytes of a cache for ``rows`` sequences of ``tokens``: keys and values, and the token ids.

    A layer with a window keeps no more than that and a few.
    """
    windows = (model.window(layer) for layer in range(model.depth))
    slots = sum(min(tokens, window + CACHE_SLACK_TOKENS) for window in windows)
    return rows * (2 * model.num_kv_heads * model.head_dim * slots * number_bytes + 8 * tokens)


def mfu(model: ModelConfig, tokens_per_second: float, peak_flops: float, gpus: int = 1) -> float:
    """Model FLOPs utilisation: the share of the peak of all GPUs that goes into the model's own FLOPs."""
    return flops_per_token(model) * tokens_per_second / (peak_flops * gpus)


def training_seconds(flops: float, peak_flops: float, gpus: int, mfu: float) -> float:
    """How long that many FLOPs take at this utilisation; evaluations and checkpoints come on top."""
    return flops / (peak_flops * gpus * mfu)


def dollars(seconds: float, gpus: int, dollars_per_hour: float) -> float:
    """What the GPUs cost for that long."""
    return seconds / 3600 * gpus * dollars_per_hour
