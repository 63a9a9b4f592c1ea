"""Training a tokenizer on the train split of a shards folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import rustbpe
from artifacts.errors import DataError, UsageError
from nanochat.data.shards import read_manifest, read_texts
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, SPLIT_PATTERN, Tokenizer

SMALLEST_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)
Progress = Callable[[str, int, int | None], object]


def train_tokenizer(
    shards: Path,
    vocab_size: int,
    *,
    doc_cap: int,
    max_chars: int,
    threads: int = 0,
    progress: Progress | None = None,
) -> Tokenizer:
    """A tokenizer of exactly ``vocab_size`` ids, special ones included, from the train documents.

    Only the first ``doc_cap`` characters of each document count, and ``max_chars`` in all. ``progress`` is
    told the phase ("count" of documents, then "merge"), how much of it is done, and of how much. Raises
    UsageError naming the largest possible vocabulary when the text supports no larger one.
    """
    files = [shards / path for path in read_manifest(shards).splits["train"]]
    if not all(map(_is_read_by_the_crate, files)):
        texts = capped(read_texts(shards, "train"), doc_cap, max_chars)
        return train_on_texts(texts, vocab_size, threads, progress)
    return _trained(
        vocab_size,
        lambda size: rustbpe.train_parquet(
            files, size, "text", SPLIT_PATTERN, threads, progress, doc_cap=doc_cap, max_chars=max_chars
        ),
    )


def _is_read_by_the_crate(file: Path) -> bool:
    """Shards of the pipeline are; an adopted one may be compressed in another way."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            groups = [parquet.metadata.row_group(number) for number in range(parquet.num_row_groups)]
    except (pa.ArrowException, OSError):
        return True  # it says what is wrong
    codecs = {group.column(number).compression for group in groups for number in range(group.num_columns)}
    return codecs <= {"ZSTD", "SNAPPY", "UNCOMPRESSED"}


def train_on_texts(
    texts: Iterable[str], vocab_size: int, threads: int = 0, progress: Progress | None = None
) -> Tokenizer:
    """``train_tokenizer`` for any texts; they are streamed, not held."""
    return _trained(vocab_size, lambda size: rustbpe.train(texts, size, SPLIT_PATTERN, threads, progress))


def _trained(vocab_size: int, train: Callable[[int], rustbpe.Trained]) -> Tokenizer:
    """``train`` learns that many ordinary tokens."""
    if vocab_size < SMALLEST_VOCAB_SIZE:
        raise UsageError(
            f"vocab_size {vocab_size} is under {SMALLEST_VOCAB_SIZE}: the bytes and special tokens"
        )
    try:
        trained = train(vocab_size - len(SPECIAL_TOKENS))
    except rustbpe.CorpusError as error:
        raise DataError(str(error), "build the shards again, or give other text") from None
    if trained.stopped_early:
        largest = len(trained.tokens) + len(SPECIAL_TOKENS)
        message = f"vocab_size {vocab_size} is more than the text supports: the largest possible is {largest}"
        raise UsageError(message, "lower vocab_size or give more text")
    return Tokenizer(tuple(trained.tokens))


def capped(texts: Iterable[str], doc_cap: int, max_chars: int) -> Iterator[str]:
    """The first ``doc_cap`` characters of each text, until ``max_chars`` have been given."""
    left = max_chars
    for text in texts:
        if left <= 0:
            return
        text = text[: min(doc_cap, left)]
        left -= len(text)
        yield text
