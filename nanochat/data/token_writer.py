"""Text shards in, token arrays out: one shard at a time, streaming, so memory is one row group.

``NAME.tokens.npy`` holds the documents' ids one after the other, ``NAME.offsets.npy`` (int64, one more
than documents) where each begins, ``NAME.json`` what they are. Plain numpy files, read by memory map.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from artifacts.errors import DataError
from nanochat.data.shards import Shard, read_shard

SCHEMA = 1


class BatchEncoder(Protocol):
    """What of a tokenizer is needed here."""

    @property
    def vocab_size(self) -> int: ...

    def encode_batch(self, texts: Sequence[str], num_threads: int = 0) -> list[list[int]]: ...


class ArrayFile:
    """A one-dimensional ``.npy`` file that grows; its header is written again with the final length."""

    def __init__(self, file: BinaryIO, dtype: np.dtype) -> None:
        self._file, self._dtype, self.length = file, dtype, 0
        self._write_header()

    def append(self, values: Sequence[int] | np.ndarray) -> None:
        """Add values at the end."""
        array = np.asarray(values, self._dtype)
        self._file.write(array.tobytes())
        self.length += len(array)

    def finish(self) -> None:
        """Put the final length into the header, for which numpy leaves room."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def token_dtype(vocab_size: int) -> np.dtype:
    """uint16 where every id fits in it, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def tokenize_shard(
    folder: Path, shard: Shard, output: Path, tokenizer: BatchEncoder, tokenizer_sha256: str, threads: int
) -> dict[str, int | str]:
    """Write the three files of one shard into ``output`` and return the description among them.

    Raises DataError when the shard is damaged or is not the one that its manifest describes.
    """
    _check_digest(folder / shard.path, shard)
    name = Path(shard.path).stem
    dtype = token_dtype(tokenizer.vocab_size)
    offsets = [0]
    text_bytes = 0
    with (output / f"{name}.tokens.npy").open("wb") as file:
        tokens = ArrayFile(file, dtype)
        for texts in read_shard(folder / shard.path):
            for ids in tokenizer.encode_batch(texts, threads):
                tokens.append(ids)
                offsets.append(tokens.length)
            text_bytes += sum(len(text.encode()) for text in texts)
        tokens.finish()
    np.save(output / f"{name}.offsets.npy", np.array(offsets, np.int64), allow_pickle=False)
    about: dict[str, int | str] = {
        "schema": SCHEMA, "split": shard.split, "rows": len(offsets) - 1, "tokens": tokens.length,
        "text_bytes": text_bytes, "dtype": dtype.name,
        "shard_sha256": shard.sha256, "tokenizer_sha256": tokenizer_sha256,
    }  # fmt: skip
    (output / f"{name}.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return about


def _check_digest(file: Path, shard: Shard) -> None:
    if not file.is_file():
        raise DataError(f"shard {file.name} is missing", "build the shards again")
    with file.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() == shard.sha256:
            return
    for _ in read_shard(file):  # names the row group where the damage is
        pass
    raise DataError(
        f"shard {file.name} is not the file that its manifest describes", "build the shards again"
    )
