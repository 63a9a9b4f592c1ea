"""Exact byte-pair encoding: a deterministic trainer and a worst-case-linear encoder."""

from collections.abc import Iterable, Sequence

DEFAULT_PATTERN: str
"""GPT-4's split pattern, but with numbers of at most two digits."""

class VocabularyTooLarge(ValueError):
    """The text supports no vocabulary as large as the one asked for."""

    largest: int

def train(texts: Iterable[str], vocab_size: int, pattern: str = ..., threads: int = 0) -> list[bytes]:
    """The bytes of each token by id: the 256 bytes, then one token a merge, in order.

    Ties go to the smallest (left id, right id), so the result depends on the texts alone. Memory
    grows with the distinct pieces, not with the texts. ``threads`` 0: one for each processor.
    Raises VocabularyTooLarge, ValueError (pattern, vocab_size under 256, lone surrogate), TypeError.
    """

class Encoder:
    """Encodes as tiktoken's ``encode_ordinary`` does; linear and without a panic for any text."""

    def __init__(self, ranks: Sequence[bytes], pattern: str = ...) -> None:
        """``ranks``: the bytes of each token by id. Raises ValueError when they are no BPE vocabulary."""

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``. Raises ValueError for a lone surrogate."""

    def encode_batch(self, texts: Sequence[str], threads: int = 0) -> list[list[int]]:
        """The ids of each text. Raises ValueError for a lone surrogate."""
