"""The tokenizer: text to token ids and back, kept as plain JSON.

Ids 0 to 255 are the bytes, then one id a merge, then the special tokens. Encoding is ordinary only:
text that spells a special token never becomes one; code asks for special ids by name.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import rustbpe
from artifacts.errors import DataError, ResourceError

if TYPE_CHECKING:
    import pyarrow as pa
    import tiktoken

T = TypeVar("T")

SCHEMA = 1
FILE_NAME = "tokenizer.json"
SPLIT_PATTERN = rustbpe.DEFAULT_PATTERN
SPECIAL_TOKENS = (
    "<|bos|>",
    "<|user_start|>", "<|user_end|>",
    "<|assistant_start|>", "<|assistant_end|>",
    "<|python_start|>", "<|python_end|>",
    "<|output_start|>", "<|output_end|>",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Tokenizer:
    """``tokens``: the bytes of each ordinary id. Raises ValueError when they are no BPE vocabulary."""

    tokens: tuple[bytes, ...]
    pattern: str = SPLIT_PATTERN
    _encoder: rustbpe.Encoder = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if self.tokens[:256] != tuple(bytes([byte]) for byte in range(256)):
            raise ValueError("the first 256 tokens are not the bytes in order")
        specials = {token: id_ for id_, token in enumerate(SPECIAL_TOKENS, len(self.tokens))}
        object.__setattr__(self, "_encoder", rustbpe.Encoder(self.tokens, self.pattern, specials))

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size})"

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return len(self.tokens) + len(SPECIAL_TOKENS)

    def special(self, name: str) -> int:
        """Id of a special token by its bare name: ``bos``, ``user_start``, … Raises KeyError."""
        return self._special_ids[name]

    @cached_property
    def _special_ids(self) -> dict[str, int]:
        return {token[2:-2]: id_ for id_, token in enumerate(SPECIAL_TOKENS, len(self.tokens))}

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """int32 (vocab_size,): how many bytes of text each id stands for; 0 for special ids."""
        lengths = [len(token) for token in self.tokens] + [0] * len(SPECIAL_TOKENS)
        return np.array(lengths, dtype=np.int32)

    def encode(self, text: str) -> list[int]:
        """Ordinary ids of ``text``, linear in its length. Raises DataError for a lone surrogate."""
        return _encoded(lambda: self._encoder.encode(text))

    def encode_batch(self, texts: Sequence[str], num_threads: int = 0) -> list[list[int]]:
        """``encode`` of each text, in parallel without the GIL; 0 threads: one for each processor."""
        return _encoded(lambda: self._encoder.encode_batch(texts, num_threads))

    def encode_to_numpy(
        self, texts: Sequence[str] | pa.Array | pa.ChunkedArray, num_threads: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """``encode`` of each text as two flat arrays, without a Python object for each text or id.

        Returns the ids of all texts one after the other, of ``id_dtype``, and where each text begins in
        them: int64 (len(texts) + 1,). Arrow's arrays are of type string or large_string.
        """
        dtype = self.id_dtype.name
        return _encoded(lambda: self._encoder.encode_to_numpy(texts, num_threads, dtype))

    @property
    def id_dtype(self) -> np.dtype:
        """uint16 where every id fits in it, else uint32."""
        return np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)

    def count(self, text: str) -> int:
        """The number of ids of ``text``."""
        return _encoded(lambda: self._encoder.count(text))

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Bytes of ``ids``; special ones as they are written. Raises DataError for an unknown id."""
        try:
            return self._encoder.decode_bytes(ids)
        except rustbpe.VocabularyError as error:
            raise DataError(str(error)) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids``; bytes that are no UTF-8 (a character cut in two) become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def to_tiktoken(self) -> tiktoken.Encoding:
        """The same vocabulary as a tiktoken encoding."""
        import tiktoken

        return tiktoken.Encoding(
            "nanochat",
            pat_str=self.pattern,
            mergeable_ranks={token: rank for rank, token in enumerate(self.tokens)},
            special_tokens={token: self.special(token[2:-2]) for token in SPECIAL_TOKENS},
        )

    def save(self, path: Path) -> None:
        """Write ``path`` (a file, or a folder that gets ``tokenizer.json``); same vocabulary, same bytes."""
        document = {
            "schema": SCHEMA,
            "pattern": self.pattern,
            "specials": SPECIAL_TOKENS,
            "merges": [base64.b64encode(token).decode() for token in self.tokens[256:]],
        }
        text = json.dumps(document, ensure_ascii=True, indent=0) + "\n"
        _file_of(path).write_text(text, encoding="ascii")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what ``save`` wrote. Raises ResourceError when absent, DataError for any defect in it."""
        file = _file_of(path)
        try:
            return cls(*_parse(json.loads(file.read_bytes())))
        except FileNotFoundError:
            raise ResourceError(f"no tokenizer at {file}", "train one: the stage `tokenizer`") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"tokenizer {file}: {error}", "build the tokenizer again") from None


def _encoded(encode: Callable[[], T]) -> T:
    try:
        return encode()
    except rustbpe.BpeError as error:
        raise DataError(f"text cannot be encoded: {error}") from None


def _file_of(path: Path) -> Path:
    return path / FILE_NAME if path.is_dir() else path


def _parse(document: Any) -> tuple[tuple[bytes, ...], str]:
    keys = ["merges", "pattern", "schema", "specials"]
    if not isinstance(document, dict) or sorted(document) != keys:
        raise ValueError(f"not an object with the keys {', '.join(keys)}")
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']!r}, this program reads {SCHEMA}")
    if document["specials"] != list(SPECIAL_TOKENS):
        raise ValueError(
            f"special tokens are {document['specials']!r:.80}, not {len(SPECIAL_TOKENS)} known ones"
        )
    merges, pattern = document["merges"], document["pattern"]
    if not isinstance(merges, list) or not isinstance(pattern, str):
        raise ValueError("merges is not a list, or pattern not a string")
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [_token(rank, text) for rank, text in enumerate(merges, 256)]
    return tuple(tokens), pattern


def _token(rank: int, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise ValueError(f"merge {rank} is not base64: {text!r:.60}") from None
