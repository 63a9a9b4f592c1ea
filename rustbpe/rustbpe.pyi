"""Exact byte-pair encoding: a deterministic trainer and a worst-case-linear encoder.

Where it says Arrow, it means pyarrow's arrays of type string or large_string without nulls; they are read
in place, so what is in them must not change meanwhile. ``threads`` 0: one for each processor. The GIL is
released while there is work.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, final

import numpy as np

DEFAULT_PATTERN: str
"""GPT-4's split pattern, but with numbers of at most two digits."""

class BpeError(ValueError):
    """Bad input; the message says what and where."""

class PatternError(BpeError):
    """The split pattern does not compile, or gave up on a text."""

class VocabularyError(BpeError):
    """Ranks that are no byte-pair vocabulary, a size or a token id out of range."""

class CorpusError(BpeError):
    """No text, text that is no Unicode, or a file that is missing or damaged."""

@final
class Trained:
    """What training gave."""

    tokens: list[bytes]
    """By id: the 256 bytes, then one token a merge, in order."""
    stopped_early: bool
    """The text has no pair left: there are fewer tokens than were asked for."""

Progress = Callable[[Literal["count", "merge"], int, int | None], object]
"""Called a few times a second with the phase, how much is done (texts, rows of Parquet or merges) and of how
much where that is known. What it raises ends the training."""

def train(
    texts: Iterable[Any],
    vocab_size: int,
    pattern: str = ...,
    threads: int = 0,
    progress: Progress | None = None,
) -> Trained:
    """Up to ``vocab_size`` tokens from texts: an iterable of str and of Arrow arrays, or one such array.

    Always the most frequent pair is merged, of equally frequent ones that with the smallest left id, then
    right id; so the result depends on the texts alone. Texts are streamed; memory grows with the distinct
    pieces. Ctrl-C ends it within a second. Raises BpeError and TypeError.
    """

def train_parquet(
    paths: Iterable[str | PathLike[str]],
    vocab_size: int,
    column: str = "text",
    pattern: str = ...,
    threads: int = 0,
    progress: Progress | None = None,
    doc_cap: int | None = None,
    max_chars: int | None = None,
) -> Trained:
    """``train`` on a text column of Parquet files (plain, snappy or zstd), read by the threads themselves.

    Each thread holds one row group. Only the first ``doc_cap`` characters of each text count, and
    ``max_chars`` in all, in the order of files and rows; what comes after that is not read. Nulls are
    left out. A file that was made to harm can still exhaust the memory.
    """

@final
class Encoder:
    """Encodes as tiktoken does; linear and without a panic for any text.

    What short pieces were encoded to is remembered (4 to 12 MB a thread at work), so the same words are
    quicker the next time.
    """

    def __init__(
        self, ranks: Iterable[bytes], pattern: str = ..., special_tokens: Mapping[str, int] | None = None
    ) -> None:
        """``ranks``: the bytes of each token by id. Raises VocabularyError when they are no BPE vocabulary.

        That is: each single byte is there, each other token is what its own bytes encode to and made of two
        earlier ones, and none is there twice.
        """

    def encode(self, text: str, allowed_special: Collection[str] | Literal["all"] | None = None) -> list[int]:
        """The ids of ``text``; special tokens in it are ordinary text but for the allowed ones."""

    def encode_batch(self, texts: Sequence[Any], threads: int = 0) -> list[list[int]]:
        """The ids of each text: a sequence of str, or Arrow arrays."""

    def encode_to_numpy(
        self, texts: Sequence[Any], threads: int = 0, dtype: Literal["uint16", "uint32"] = "uint32"
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts in one array, and where each text begins in it: int64 (len(texts) + 1,)."""

    def count(self, text: str) -> int:
        """The number of ids of ``text``."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The joined bytes of ``ids``; special tokens as they are written. Raises VocabularyError."""

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """``decode_bytes`` as text; ``errors`` as in ``bytes.decode``."""
