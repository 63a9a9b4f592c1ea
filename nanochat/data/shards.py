"""Parquet shards of text and their manifest: written deterministically, read with nothing skipped.

A shard has one column ``text`` (string), row groups of 1,024 documents, zstd. The manifest says which
shards are train and which are validation; a later shard never moves the validation shard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from artifacts.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_GROUP = 1024
MANIFEST = "manifest.json"
Split = Literal["train", "val"]


class Shard(BaseModel):
    """One shard of a manifest: ``path`` inside the folder, sizes in rows and bytes, digest of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    split: Split
    rows: int
    text_bytes: int
    bytes: int
    sha256: str


class ShardsManifest(BaseModel):
    """The contents of ``manifest.json``; further keys belong to the source that wrote it."""

    model_config = ConfigDict(extra="allow")
    schema_number: Literal[1] = Field(alias="schema")
    source: str
    splits: dict[Split, list[str]]
    shards: list[Shard]


def read_manifest(folder: Path) -> ShardsManifest:
    """The manifest of a shards folder. Raises DataError when it is missing, damaged or inconsistent."""
    try:
        manifest = ShardsManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise DataError(f"{folder.name}: no {MANIFEST}", "give the output of the shards stage") from None
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise DataError(f"{folder.name}/{MANIFEST}: {where or 'not JSON'} is not as expected") from None
    return manifest


def write_manifest(folder: Path, source: str, shards: list[Shard], details: dict[str, Any]) -> None:
    """Write ``manifest.json``; ``details`` are the source's own deterministic facts."""
    splits = {split: [s.path for s in shards if s.split == split] for split in ("train", "val")}
    for split, paths in splits.items():
        if not paths:
            raise DataError(f"source {source}: no {split} shard", "give more data, or another val_fraction")
    manifest = {
        "schema": 1,
        "source": source,
        "splits": splits,
        "shards": [shard.model_dump() for shard in shards],
        **details,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def shard_path(number: int) -> str:
    """Where shard ``number`` lies inside a shards folder."""
    return f"pretrain/shard_{number:05d}.parquet"


def write_shards(
    folder: Path, texts: Iterable[str], split: Split, first: int, shard_bytes: int
) -> list[Shard]:
    """Write ``texts`` as shards of about ``shard_bytes`` UTF-8 bytes each, numbered from ``first``."""
    shards: list[Shard] = []
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text.encode())
        if size >= shard_bytes:
            shards.append(write_shard(folder, shard_path(first + len(shards)), split, batch))
            batch, size = [], 0
    if batch:
        shards.append(write_shard(folder, shard_path(first + len(shards)), split, batch))
    return shards


def write_shard(folder: Path, path: str, split: Split, texts: list[str]) -> Shard:
    """Write one shard; the same texts give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"text": pa.array(texts, pa.string())})
    pq.write_table(
        table, target, row_group_size=ROWS_PER_GROUP, compression="zstd", compression_level=3,
        use_dictionary=False, write_statistics=False, write_page_checksum=True, store_schema=False,
    )  # fmt: skip
    return describe_shard(target, path, split, len(texts), sum(len(text.encode()) for text in texts))


def describe_shard(file: Path, path: str, split: Split, rows: int, text_bytes: int) -> Shard:
    """The manifest entry of a shard that was written or checked."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Shard(
        path=path, split=split, rows=rows, text_bytes=text_bytes, bytes=file.stat().st_size, sha256=digest
    )


def read_shard(file: Path) -> Iterator[list[str]]:
    """Yield the documents of each row group. Raises as ``read_columns`` does."""
    for column in read_columns(file):
        yield column.to_pylist()


def read_columns(file: Path) -> Iterator[pa.ChunkedArray]:
    """Yield the documents of each row group as Arrow has them, valid UTF-8, at most one group in memory.

    Raises DataError naming the shard and the row group when the file is empty, truncated, damaged or has
    another schema; nothing is ever skipped.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    group = 0
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            _check_schema(file, parquet.schema_arrow)
            if not parquet.metadata.num_rows:
                raise _bad(file, 0, "no documents")
            for group in range(parquet.num_row_groups):
                yield _checked(file, group, parquet.read_row_group(group, columns=["text"]).column("text"))
    except FileNotFoundError:
        raise DataError(f"shard {file.name} is missing") from None
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise _bad(file, group, f"damaged or truncated: {reason}") from None


def _check_schema(file: Path, schema: Any) -> None:
    import pyarrow as pa

    types = {name: schema.field(name).type for name in schema.names}
    if types.get("text") not in (pa.string(), pa.large_string()):
        columns = ", ".join(f"{name}: {kind}" for name, kind in types.items())
        raise _bad(file, 0, f"columns are ({columns}), wanted text: string")


def _checked(file: Path, group: int, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.null_count:
        raise _bad(file, group, f"{column.null_count} documents without text")
    column.validate(full=True)
    return column


def _bad(file: Path, group: int, reason: str) -> DataError:
    return DataError(f"shard {file.name}, row group {group}: {reason}", "fetch or build it again")


def read_texts(folder: Path, split: Split, paths: list[str] | None = None) -> Iterator[str]:
    """Documents of one split of a shards folder in manifest order, of the shards ``paths`` if given."""
    for path in read_manifest(folder).splits[split]:
        if paths is None or path in paths:
            for texts in read_shard(folder / path):
                yield from texts
