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

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join(
            bytes([token]) if token < 256 else f"<|{NAMES[token - 256]}|>".encode() for token in ids
        )


def script(*pieces: str) -> list[int]:
    """Token ids of texts and ``<special>`` names."""
    tokenizer = ByteTokenizer()
    ids: list[int] = []
    for piece in pieces:
        ids += [tokenizer.special(piece[1:-1])] if piece[1:-1] in NAMES else tokenizer.encode(piece)
    return ids


class ScriptedCache:
    """The tokens that each row has read, and how many of the first were its prompt."""

    def __init__(self, rows: int) -> None:
        self.tokens: list[list[int]] = [[] for _ in range(rows)]

    def reset(self, rows_N: Tensor) -> None:
        for row in rows_N.tolist():
            self.tokens[row] = []

    def clear(self, row: int) -> None:
        self.tokens[row] = []

    def truncate(self, row: int, tokens: int) -> bool:
        del self.tokens[row][tokens:]
        return True

    def copy(self, source: int, target: int, tokens: int) -> bool:
        self.tokens[target] = self.tokens[source][:tokens]
        return True

    def length(self, row: int) -> int:
        return len(self.tokens[row])


@dataclass
class ScriptedModel:
    """Wants to say ``scripts[first prompt token]`` in order; output of tools does not advance it.

    An answer begins after the last ``assistant_start``, or, without one, after what was read first.
    """

    scripts: dict[int, list[int]]
    seq_len: int = 1000
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self.config = SimpleNamespace(seq_len=self.seq_len)
        self.calls: list[list[int]] = []  # rows of every decode
        self.prompts: list[list[int]] = []  # tokens of every prefill
        self._begins: dict[int, int] = {}

    def new_cache(self, rows: int, max_tokens: int) -> ScriptedCache:
        return ScriptedCache(rows)

    def prefill(self, tokens_NT: Tensor, cache: ScriptedCache, rows_N: Tensor) -> Tensor:
        for row, tokens in zip(rows_N.tolist(), tokens_NT.tolist(), strict=True):
            if not cache.tokens[row]:
                self._begins[row] = len(tokens)
            cache.tokens[row] += tokens
            self.prompts.append(tokens)
        return self._logits(cache, rows_N)

    def decode(self, tokens_N: Tensor, cache: ScriptedCache, rows_N: Tensor) -> Tensor:
        self.calls.append(rows_N.tolist())
        for row, token in zip(rows_N.tolist(), tokens_N.tolist(), strict=True):
            cache.tokens[row].append(token)
        return self._logits(cache, rows_N)

    def _logits(self, cache: ScriptedCache, rows_N: Tensor) -> Tensor:
        logits = torch.zeros(len(rows_N), ByteTokenizer.vocab_size)
        for i, row in enumerate(rows_N.tolist()):
            said = self._said(cache.tokens[row], self._begins.get(row, 0))
            rest = self.scripts[cache.tokens[row][0]][said:]
            logits[i, rest[0] if rest else ord(".")] = 50.0
        return logits

    def _said(self, tokens: list[int], begin: int) -> int:
        """How much of the script the tokens of an answer have said."""
        start, output, end = (
            ByteTokenizer().special(name) for name in ("assistant_start", "output_start", "output_end")
        )
        if start in tokens:
            begin = len(tokens) - tokens[::-1].index(start)
        said, forced = 0, False
        script = self.scripts[tokens[0]]
        for token in tokens[begin:]:
            wanted = said < len(script) and token == script[said]
            forced = token != end if forced else token == output and not wanted
            said += wanted and not forced
        return said
