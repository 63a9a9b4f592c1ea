"""A small tokenizer, trained once."""

from __future__ import annotations

import pytest

from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.tokenizer.training import train_on_texts

TEXT = """\
What is 37 + 45? Let me see: the answer is 82. You are helpful, and I'm the assistant, as they say.
<|bos|> naïve 🤖 – a tokenizer learns the most frequent pairs first, then pairs of pairs, and so on.
"""


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """350 ids, of which 9 are special."""
    return train_on_texts([TEXT], 350)
