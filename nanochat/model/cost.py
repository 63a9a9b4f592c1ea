"""What a model costs, computed from its shape alone: parameters by group, and FLOPs a training token.

Nothing is built and torch is not loaded; a test holds the counts equal to the real model's.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from nanochat.config.model import ModelConfig

VALUE_GATE_CHANNELS = 12  # as in attention.py, which loads torch
SMEAR_CHANNELS = 24  # as in gpt.py, likewise


@dataclass(frozen=True)
class Parameters:
    """How many numbers each group of a model holds. Tables are looked up; matrices and gates multiply."""

    embedding: int
    value_embeddings: int
    matrices: int
    gates: int
    head: int
    scalars: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(astuple(self))

    @property
    def multiplying(self) -> int:
        """Those that every token is multiplied with."""
        return self.matrices + self.gates + self.head


def parameters(model: ModelConfig) -> Parameters:
    """The parameters of a model of this shape."""
    kv_width = model.num_kv_heads * model.head_dim
    gated = sum(model.has_value_embedding(layer) for layer in range(model.depth))
    table = model.padded_vocab_size
    return Parameters(
        embedding=table * model.width,
        value_embeddings=gated * table * kv_width,
        matrices=model.depth * (10 * model.width**2 + 2 * model.width * kv_width),
        gates=gated * VALUE_GATE_CHANNELS * model.num_kv_heads + (SMEAR_CHANNELS if model.smear else 0),
        head=table * model.width,
        scalars=(2 * model.depth if model.residual_scalars else 0) + model.smear + model.backout,
    )


def flops_per_token(model: ModelConfig) -> int:
    """FLOPs of training on one token, forward and backward.

    6 for every parameter that multiplies (2 forward, 4 backward), and 12 · width · window a layer for
    queries on keys and weights on values (Chowdhery et al., PaLM, 2022, appendix B), where a position
    looks back over the layer's window. Norms, softmax and look-ups are not counted, as in nanochat.
    """
    attention = sum(12 * model.width * model.window(layer) for layer in range(model.depth))
    return 6 * parameters(model).multiplying + attention
