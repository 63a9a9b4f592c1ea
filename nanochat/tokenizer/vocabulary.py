"""What is in a vocabulary: the special tokens and what each is for, and how ids are divided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

PURPOSES = {
    "bos": "a document or a conversation begins",
    "user_start": "the user begins to speak",
    "user_end": "the user has spoken",
    "assistant_start": "the assistant begins to speak; what follows is the model's to say",
    "assistant_end": "the assistant has spoken; generation stops here",
    "python_start": "the assistant begins an expression for the calculator",
    "python_end": "the expression ends; the calculator is asked",
    "output_start": "what the calculator says begins",
    "output_end": "what the calculator says ends; the assistant goes on",
}
NUM_LONGEST = 8


@dataclass(frozen=True)
class SpecialToken:
    """A token that no text becomes: code asks for it by name."""

    token: str
    id: int
    purpose: str


@dataclass(frozen=True)
class IdRange:
    """Ids from ``first`` to ``last``, both included; an empty range ends before it begins."""

    what: str
    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    @property
    def ids(self) -> str:
        return f"{self.first} – {self.last}" if self.count else "none"


@dataclass(frozen=True)
class Vocabulary:
    """How the ids of a tokenizer are divided, and which of its tokens are the longest."""

    size: int
    ranges: tuple[IdRange, ...]
    partial: int
    """Merged tokens that cut a character in two."""
    mean_bytes: float
    """Of a merged token; 0 if there is none."""
    longest: tuple[bytes, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            **asdict(self), "longest": [token.hex() for token in self.longest],
            "ranges": [{**asdict(part), "count": part.count} for part in self.ranges],
        }  # fmt: skip

    def rows(self) -> list[tuple[str, str, str]]:
        """What, how many, which ids; then facts about merged tokens."""
        return [
            ("all ids", f"{self.size:,}", f"0 – {self.size - 1}"),
            *((part.what, f"{part.count:,}", part.ids) for part in self.ranges),
            ("merged, but no whole characters", f"{self.partial:,}", ""),
            ("bytes of a merged token, on average", f"{self.mean_bytes:.2f}", ""),
        ]


def special_tokens(tokenizer: Tokenizer) -> list[SpecialToken]:
    """The special tokens in the order of their ids."""
    names = [token[2:-2] for token in SPECIAL_TOKENS]
    return [SpecialToken(f"<|{name}|>", tokenizer.special(name), PURPOSES[name]) for name in names]


def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """The facts about a tokenizer's vocabulary."""
    merged = tokenizer.tokens[256:]
    ordinary = len(tokenizer.tokens)
    ranges = (
        IdRange("ordinary", 0, ordinary - 1),
        IdRange("ordinary: single bytes", 0, 255),
        IdRange("ordinary: merged from two others", 256, ordinary - 1),
        IdRange("special", ordinary, tokenizer.vocab_size - 1),
    )
    mean = sum(map(len, merged)) / len(merged) if merged else 0.0
    longest = sorted(merged, key=len, reverse=True)[:NUM_LONGEST]
    return Vocabulary(tokenizer.vocab_size, ranges, _partial(merged), mean, tuple(longest))


def _partial(tokens: Iterable[bytes]) -> int:
    count = 0
    for token in tokens:
        try:
            token.decode()
        except UnicodeDecodeError:
            count += 1
    return count
