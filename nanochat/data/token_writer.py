"""Text shards in, token arrays out: one shard at a time, streaming, so memory is one row group.

``NAME.tokens.npy`` holds the documents' ids one after the other, ``NAME.offsets.npy`` (int64, one more
than documents) where each begins, ``NAME.json`` what they are. Plain numpy files, read by memory map.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np

from artifacts.errors import DataError
from nanochat.data.shards import Shard, read_columns

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = 1


class BatchEncoder(Protocol):
    """What of a tokenizer is needed here."""

    @property
    def id_dtype(self) -> np.dtype: ...

    def encode_to_numpy(
        self, texts: pa.ChunkedArray, num_threads: int = 0
    ) -> tuple[np.ndarray, np.ndarray]: ...


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


def tokenize_shard(
    folder: Path, shard: Shard, output: Path, tokenizer: BatchEncoder, tokenizer_sha256: str, threads: int
) -> dict[str, int | str]:
    """Write the three files of one shard into ``output`` and return the description among them.

    Raises DataError when the shard is damaged or is not the one that its manifest describes.
    """
    import pyarrow.compute as pc

    _check_digest(folder / shard.path, shard)
    name = Path(shard.path).stem
    dtype = tokenizer.id_dtype
    ends = [np.zeros(1, np.int64)]
    text_bytes = 0
    with (output / f"{name}.tokens.npy").open("wb") as file:
        tokens = ArrayFile(file, dtype)
        for texts in read_columns(folder / shard.path):
            ids, offsets = tokenizer.encode_to_numpy(texts, threads)
            ends.append(offsets[1:] + tokens.length)
            tokens.append(ids)
            text_bytes += pc.sum(pc.binary_length(texts), min_count=0).as_py()
        tokens.finish()
    offsets = np.concatenate(ends)
    np.save(output / f"{name}.offsets.npy", offsets, allow_pickle=False)
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
    for _ in read_columns(file):  # names the row group where the damage is
        pass
    raise DataError(
        f"shard {file.name} is not the file that its manifest describes", "build the shards again"
    )
