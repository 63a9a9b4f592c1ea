"""The default corpus written out: documents in, the whole data-mirror layout out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from artifacts.errors import DataError
from nanochat.data.lock import select
from nanochat.data.objects import write_objects, write_words
from nanochat.data.pydocs import Document, documents
from nanochat.data.shards import write_manifest, write_shards
from nanochat.data.smalltalk import write_smalltalk
from nanochat.data.split import choose_validation


def write_pydocs(
    folder: Path,
    packages: list[str] | None,
    *,
    workers: int,
    shard_bytes: int,
    max_bytes: int | None,
    val_fraction: float,
    val_documents: int,
) -> dict[str, int]:
    """Write shards, manifest, question material, words and small talk; return counts for the summary."""
    selection = select(packages)
    corpus = _unique(_at_most(max_bytes, documents(selection, workers)))
    validation = choose_validation([(d.sha256, d.text) for d in corpus], val_fraction, val_documents)
    if not validation:
        raise DataError(f"{len(corpus)} documents are too few to set some aside", "select more packages")
    train = [document.text for document in corpus if document.sha256 not in validation]
    held_out = [document.text for document in corpus if document.sha256 in validation]
    shards = write_shards(folder, train, "train", 0, shard_bytes)
    shards += write_shards(folder, held_out, "val", len(shards), max(shard_bytes, 1 << 30))
    metrics = {
        "documents": len(corpus),
        "val_documents": len(held_out),
        "text_bytes": sum(shard.text_bytes for shard in shards),
        "shards": len(shards),
        "words": write_words(folder, train),
        **write_objects(folder, corpus, validation),
        **write_smalltalk(folder),
    }
    write_manifest(folder, "pydocs", shards, {**selection.identity(), "counts": metrics})
    return metrics


def _unique(corpus: Iterable[Document]) -> list[Document]:
    """Each text once, in the order of its digest: a stable shuffle."""
    return [document for _, document in sorted({d.sha256: d for d in corpus}.items())]


def _at_most(max_bytes: int | None, corpus: Iterator[Document]) -> Iterator[Document]:
    size = 0
    for document in corpus:
        size += len(document.text.encode())
        if max_bytes is not None and size > max_bytes:
            return
        yield document
