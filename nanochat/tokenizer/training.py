"""Training a tokenizer on the train split of a shards folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import rustbpe
from artifacts.errors import UsageError
from nanochat.data.shards import read_texts
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, SPLIT_PATTERN, Tokenizer

SMALLEST_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)


def train_tokenizer(
    shards: Path, vocab_size: int, *, doc_cap: int, max_chars: int, threads: int = 0
) -> Tokenizer:
    """A tokenizer of exactly ``vocab_size`` ids, special ones included, from the train documents.

    Only the first ``doc_cap`` characters of each document count, and ``max_chars`` in all. Raises
    UsageError naming the largest possible vocabulary when the text supports no larger one.
    """
    texts = capped(read_texts(shards, "train"), doc_cap, max_chars)
    return train_on_texts(texts, vocab_size, threads)


def train_on_texts(texts: Iterable[str], vocab_size: int, threads: int = 0) -> Tokenizer:
    """``train_tokenizer`` for any texts; they are streamed, not held."""
    if vocab_size < SMALLEST_VOCAB_SIZE:
        raise UsageError(
            f"vocab_size {vocab_size} is under {SMALLEST_VOCAB_SIZE}: the bytes and special tokens"
        )
    try:
        tokens = rustbpe.train(texts, vocab_size - len(SPECIAL_TOKENS), SPLIT_PATTERN, threads)
    except rustbpe.VocabularyTooLarge as error:
        largest = error.largest + len(SPECIAL_TOKENS)
        message = f"vocab_size {vocab_size} is more than the text supports: the largest possible is {largest}"
        raise UsageError(message, "lower vocab_size or give more text") from None
    return Tokenizer(tuple(tokens))


def capped(texts: Iterable[str], doc_cap: int, max_chars: int) -> Iterator[str]:
    """The first ``doc_cap`` characters of each text, until ``max_chars`` have been given."""
    left = max_chars
    for text in texts:
        if left <= 0:
            return
        text = text[: min(doc_cap, left)]
        left -= len(text)
        yield text
