"""A byte-level tokenizer and a model that says what it is told to, for tests of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor

NAMES = (
    "bos", "user_start", "user_end", "assistant_start", "assistant_end",
    "python_start", "python_end", "output_start", "output_end",
)  # fmt: skip


class ByteTokenizer:
    """One id a byte, then the special tokens."""

    vocab_size = 256 + len(NAMES)

    def special(self, name: str) -> int:
        return 256 + NAMES.index(name)

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(token for token in ids if token < 256).decode(errors="replace")


def script(*pieces: str) -> list[int]:
    """Token ids of texts and ``<special>`` names."""
    tokenizer = ByteTokenizer()
    ids: list[int] = []
    for piece in pieces:
        ids += [tokenizer.special(piece[1:-1])] if piece[1:-1] in NAMES else tokenizer.encode(piece)
    return ids


@dataclass
class ScriptedModel:
    """Wants to say ``scripts[first prompt token]`` in order; forced tokens do not advance the script."""

    scripts: dict[int, list[int]]
    seq_len: int = 1000
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self.config = SimpleNamespace(seq_len=self.seq_len)
        self.calls: list[list[int]] = []  # rows of every decode
        self.prompts: list[list[int]] = []

    def new_cache(self, rows: int, max_tokens: int) -> dict[int, list[int]]:
        return {}

    def prefill(self, tokens_NT: Tensor, cache: dict[int, list[int]], rows_N: Tensor) -> Tensor:
        for row, tokens in zip(rows_N.tolist(), tokens_NT.tolist(), strict=True):
            assert row not in cache
            self.prompts.append(tokens)
            cache[row] = list(self.scripts[tokens[0]])
        return self._logits(cache, rows_N)

    def decode(self, tokens_N: Tensor, cache: dict[int, list[int]], rows_N: Tensor) -> Tensor:
        self.calls.append(rows_N.tolist())
        for row, token in zip(rows_N.tolist(), tokens_N.tolist(), strict=True):
            if cache[row] and token == cache[row][0]:
                cache[row].pop(0)
        return self._logits(cache, rows_N)

    def _logits(self, cache: dict[int, list[int]], rows_N: Tensor) -> Tensor:
        logits = torch.zeros(len(rows_N), ByteTokenizer.vocab_size)
        for i, row in enumerate(rows_N.tolist()):
            logits[i, cache[row][0] if cache[row] else ord(".")] = 50.0
        return logits
