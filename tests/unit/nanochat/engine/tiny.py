"""A small random GPT over bytes."""

from __future__ import annotations

import torch

from nanochat.config.model import ModelConfig
from nanochat.model.gpt import GPT
from tests.unit.nanochat.engine.scripted import ByteTokenizer


def tiny_gpt(seq_len: int) -> GPT:
    """Its logits are far enough apart to survive rounding."""
    config = ModelConfig(
        depth=3, width=32, num_heads=2, num_kv_heads=2, vocab_size=ByteTokenizer.vocab_size, seq_len=seq_len
    )
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3, generator=generator)
    return model
