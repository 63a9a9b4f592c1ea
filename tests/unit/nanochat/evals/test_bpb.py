"""Bits per byte against its definition, computed one window and one token at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nanochat.config.model import ModelConfig
from nanochat.evals.bpb import bits_per_byte
from nanochat.model.gpt import GPT

SEQ_LEN, VOCAB, BOS = 8, 30, 29
TOKEN_BYTES = np.array([1 + id_ % 4 for id_ in range(28)] + [0, 0], dtype=np.int32)  # 28, 29 are special


@pytest.fixture(scope="module")
def model() -> GPT:
    """A random GPT far from uniform."""
    made = GPT(ModelConfig(depth=2, width=32, num_heads=2, num_kv_heads=1, vocab_size=VOCAB, seq_len=SEQ_LEN))
    made.init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.head.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
    return made


def documents() -> list[np.ndarray]:
    """Documents around the window's length, one empty, one with a special token inside."""
    rng = np.random.default_rng(0)
    lengths = (1, 7, 8, 9, 0, 25, 16)
    made = [rng.integers(0, 28, size=length).astype(np.uint16) for length in lengths]
    made[3][4] = 28
    return made


@torch.no_grad()
def by_definition(model: GPT) -> tuple[float, int, int]:
    nats = num_bytes = num_tokens = 0
    for document in documents():
        for start in range(0, len(document), SEQ_LEN):
            window = [int(token) for token in document[start : start + SEQ_LEN]]
            log_probs = model(torch.tensor([[BOS, *window[:-1]]])).log_softmax(dim=-1)[0]
            for position, token in enumerate(window):
                if TOKEN_BYTES[token]:
                    nats -= float(log_probs[position, token])
                    num_bytes += int(TOKEN_BYTES[token])
                    num_tokens += 1
    return nats / (math.log(2) * num_bytes), num_tokens, num_bytes


@pytest.mark.parametrize("batch_tokens", [1, 20, 10_000])
def test_equals_its_definition_for_every_batch_size(model: GPT, batch_tokens: int) -> None:
    measured = bits_per_byte(
        model, documents(), bos=BOS, token_bytes=TOKEN_BYTES, seq_len=SEQ_LEN, batch_tokens=batch_tokens
    )
    value, num_tokens, num_bytes = by_definition(model)
    assert measured.value == pytest.approx(value, rel=1e-5)
    assert (measured.tokens, measured.bytes, measured.documents) == (num_tokens, num_bytes, 7)
    assert num_tokens == sum(map(len, documents())) - 1


def test_nothing_measured_is_not_a_number(model: GPT) -> None:
    assert math.isnan(bits_per_byte(model, [], bos=BOS, token_bytes=TOKEN_BYTES, seq_len=SEQ_LEN).value)
