"""The shape of a model, as data: everything ``model/gpt.py`` and ``model/cost.py`` need to know."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from nanochat.config.base import Config

MIN_WIDTH = 24
SPECIAL_TOKENS = 9  # the last ids of a vocabulary; BOS is the first of them

Architecture = Literal["current", "hf"]

# "current" is nanochat of July 2026; "hf" that of December 2025, transformers' NanoChatForCausalLM.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "current": {},
    "hf": {
        "value_embeddings": False, "residual_scalars": False, "smear": False, "backout": False,
        "qk_scale": 1.0, "rope_base": 10_000.0, "embedding_std": 1.0, "mlp_init_scale": 1.0,
        "window_pattern": "L",
    },
}  # fmt: skip


class ModelConfig(Config):
    """Shape and switches of one GPT. ``vocab_size`` counts the special tokens too."""

    depth: int = Field(ge=1, le=128, description="number of transformer blocks")
    width: int = Field(ge=8, description="channels of the residual stream")
    num_heads: int = Field(ge=1, description="query heads")
    num_kv_heads: int = Field(ge=1, description="key and value heads (fewer than num_heads: grouped-query)")
    vocab_size: int = Field(ge=2, description="token ids, special tokens included")
    seq_len: int = Field(ge=8, description="training context in tokens")
    window_pattern: str = Field("SSSL", pattern="^[SL]+$", description="per layer, repeated: S short, L full")
    value_embeddings: bool = Field(True, description="gated value embeddings on every second layer")
    residual_scalars: bool = Field(True, description="learned residual and embedding-skip scalar per layer")
    smear: bool = Field(True, description="gate that mixes the previous token's embedding in")
    backout: bool = Field(True, description="subtract the mid-depth residual before the head")
    document_mask: bool = Field(False, description="a token sees no document of its row but its own")
    qk_scale: float = Field(1.2, gt=0, description="factor on normalised queries and on keys")
    rope_base: float = Field(100_000.0, gt=1, description="rotary base frequency")
    softcap: float = Field(15.0, gt=0, description="logits are squashed to +-softcap by tanh")
    embedding_std: float = Field(0.8, gt=0, description="initial std of token embeddings")
    mlp_init_scale: float = Field(0.4, gt=0, description="initial scale of the first MLP matrix")

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.width % self.num_heads or (self.width // self.num_heads) % 2:
            raise ValueError(f"width {self.width} must be num_heads {self.num_heads} x an even head size")
        if self.width < MIN_WIDTH:
            raise ValueError(f"width {self.width} is less than {MIN_WIDTH}, what the gates look at")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.document_mask and self.vocab_size <= SPECIAL_TOKENS:
            raise ValueError(f"document_mask needs BOS, and a vocab_size of {self.vocab_size} has none")
        return self

    @property
    def bos(self) -> int:
        """Id of the token with which each document begins."""
        return self.vocab_size - SPECIAL_TOKENS

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.num_heads

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding and head tables: the vocabulary rounded up to 64."""
        return -(-self.vocab_size // 64) * 64

    def has_value_embedding(self, layer: int) -> bool:
        """Every second layer, counted so that the last one always has it."""
        return self.value_embeddings and layer % 2 == (self.depth - 1) % 2

    def window(self, layer: int) -> int:
        """Tokens a position of ``layer`` may look back to; short = a quarter context in steps of 128."""
        short = -(-self.seq_len // 4 // 128) * 128
        letter = self.window_pattern[layer % len(self.window_pattern)]
        return self.seq_len if letter == "L" or layer == self.depth - 1 else min(short, self.seq_len)
