"""A tokenizer and models in which every parameter matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nanochat.config.derive import Dials, model_shape
from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.tokenizer.training import train_on_texts

TEXT = """\
What is 37 + 45? Let me see: the answer is 82. You are helpful, and I'm the assistant, as they say.
<|bos|> naïve 🤖 – a tokenizer learns the most frequent pairs first, then pairs of pairs, and so on. It's 12.
"""


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """350 ids, of which 9 are special."""
    return train_on_texts([TEXT], 350)


@pytest.fixture(scope="session")
def random_model() -> Callable[..., GPT]:
    """``random_model(arch="hf", num_kv_heads=1)``; a real start has output projections of zeros."""

    def make(num_kv_heads: int | None = None, document_mask: bool = False, **dials: Any) -> GPT:
        given = {"depth": 3, "vocab_size": 350, "seq_len": 640, "aspect_ratio": 32, "head_dim": 32}
        shape = model_shape(Dials(**(given | dials)))
        change = {"num_kv_heads": num_kv_heads or shape.num_kv_heads, "document_mask": document_mask}
        torch.manual_seed(0)
        model = GPT(shape.model_copy(update=change))
        model.init_weights()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
            model.head.weight.mul_(6)  # so that the cap caps
        return model.eval()

    return make
