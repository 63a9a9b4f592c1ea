"""Shards and texts of others in, a checked shards folder out.

Shards keep their bytes. The one exception: a document of the validation shard that also stands in a train
shard is taken out of validation.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artifacts.errors import DataError
from artifacts.paths import relative_path
from nanochat.data.folder import Folder
from nanochat.data.hub import place
from nanochat.data.shards import (
    MANIFEST,
    Shard,
    Split,
    describe_shard,
    read_shard,
    shard_path,
    write_shard,
    write_shards,
)
from nanochat.data.split import choose_validation

CARRIED = ("chat/", "tasks/", "words.txt")
PASSAGE_CHARS = 4000  # a long plain text is cut at blank lines into passages of about this length
_NUMBERED = re.compile(r"shard_\d{5}\.parquet")
_TEXT_ENDINGS = (".jsonl", ".jsonl.gz", ".txt", ".parquet")


def adopt_folder(source: Folder, output: Path, num_shards: int | None) -> list[Shard] | None:
    """Copy the Parquet shards of a folder and what belongs to a data mirror; None if it has no shards."""
    names = [name for name in source.files if re.fullmatch(r"(pretrain/)?[^/]+\.parquet", name)]
    if len(names) < 2:
        return None
    named = _validation_names(source, output)
    validation = [name for name in names if name in named or name.removeprefix("pretrain/") in named]
    validation = validation or names[-1:]
    train = [name for name in names if name not in validation][:num_shards]
    keep_names = all(_NUMBERED.fullmatch(Path(name).name) for name in names)
    placed: dict[str, Split] = {}
    for number, name in enumerate([*train, *validation]):
        path = f"pretrain/{Path(name).name}" if keep_names else shard_path(number)
        source.copy(name, output / path)
        placed[path] = "val" if name in validation else "train"
    for name in source.files:
        if name.startswith(CARRIED):
            source.copy(name, output / relative_path(name))
    return adopt_shards(output, placed)


def _validation_names(source: Folder, output: Path) -> set[str]:
    if MANIFEST not in source.files:
        return set()
    file = source.copy(MANIFEST, output / MANIFEST)
    try:
        document = json.loads(file.read_bytes())
        return set(document["splits"]["val"])
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{source.shown}/{MANIFEST} does not say which shards are val") from None
    finally:
        file.unlink()  # ours is written at the end


def link_shards(files: list[Path], output: Path) -> list[Shard]:
    """Take downloaded files, the last one for validation, without a second copy where links are possible."""
    placed: dict[str, Split] = {}
    for file in files:
        path = f"pretrain/{file.name}"
        placed[path] = "val" if file == files[-1] else "train"
        (output / path).parent.mkdir(exist_ok=True)
        place(file, output / path)
    return adopt_shards(output, placed)


def adopt_shards(folder: Path, placed: dict[str, Split]) -> list[Shard]:
    """Read every document of every shard: describe the shards, and keep train out of validation."""
    held_out: dict[bytes, bool] = {}  # digest of a validation document -> it also stands in train
    shards: dict[str, Shard] = {}
    for path, split in sorted(placed.items(), key=lambda item: item[1] != "val"):
        rows = text_bytes = 0
        for texts in read_shard(folder / path):
            rows += len(texts)
            for text in texts:
                text_bytes += len(text.encode())
                digest = _digest(text)
                if split == "val":
                    held_out[digest] = False
                elif digest in held_out:
                    held_out[digest] = True
        shards[path] = describe_shard(folder / path, path, split, rows, text_bytes)
    if any(held_out.values()):
        for path in (path for path, split in placed.items() if split == "val"):
            shards[path] = _without(folder, path, held_out)
    return [shards[path] for path in placed]


def _without(folder: Path, path: str, held_out: dict[bytes, bool]) -> Shard:
    texts = [text for group in read_shard(folder / path) for text in group if not held_out[_digest(text)]]
    if not texts:
        raise DataError(f"shard {Path(path).name}: every validation document also stands in train")
    (folder / path).unlink()  # it may be a link into the download cache
    return write_shard(folder, path, "val", texts)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def write_texts(
    source: Folder, output: Path, scratch: Path, *, shard_bytes: int, val_fraction: float, val_documents: int
) -> list[Shard]:
    """Cut a folder of JSONL (field ``text``), txt or one Parquet file into shards; held in memory."""
    names = [name for name in source.files if name.endswith(_TEXT_ENDINGS)]
    unique: dict[str, str] = {}
    for name in names:
        local = source.copy(name, scratch / "text")
        unique.update((_digest(text).hex(), text) for text in _texts_of(local, name) if text.strip())
        local.unlink()
    documents = sorted(unique.items())
    validation = choose_validation(documents, val_fraction, val_documents)
    if not validation:
        raise DataError(f"{source.shown}: {len(documents)} documents are too few to set some aside")
    train = [text for digest, text in documents if digest not in validation]
    held_out = [text for digest, text in documents if digest in validation]
    shards = write_shards(output, train, "train", 0, shard_bytes)
    return [*shards, *write_shards(output, held_out, "val", len(shards), 1 << 40)]


def _texts_of(file: Path, name: str) -> Iterator[str]:
    if name.endswith(".parquet"):
        for group in read_shard(file):
            yield from group
    elif name.endswith(".txt"):
        yield from _passages(_decoded(file.read_bytes(), name))
    else:
        data = gzip.decompress(file.read_bytes()) if name.endswith(".gz") else file.read_bytes()
        for number, line in enumerate(_decoded(data, name).rstrip("\n").split("\n"), 1):
            yield _text_field(line, f"{name}:{number}")


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not UTF-8 at byte {error.start}") from None


def _text_field(line: str, where: str) -> str:
    try:
        row: Any = json.loads(line)
        text = row["text"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{where}: not a JSON object with a field text") from None
    if not isinstance(text, str):
        raise DataError(f"{where}: text is {type(text).__name__}, wanted a string")
    return text


def _passages(text: str) -> Iterator[str]:
    passage: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        passage.append(paragraph)
        if sum(map(len, passage)) >= PASSAGE_CHARS:
            yield "\n\n".join(passage)
            passage = []
    yield "\n\n".join(passage)
