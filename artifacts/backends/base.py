"""What a place to keep objects must offer: bytes by key. A dozen verbs, no rename, no folders.

Keys are legal relative paths (``artifacts.paths.relative_path``). An absent object is a value
(None, False), never an exception; a storage that fails raises ResourceError, never "absent".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class ObjectInfo:
    """A listed object; ``age_s`` is measured by the storage's own clock.

    ``tag``: another one whenever the bytes are; empty where the storage has none.
    """

    key: str
    size: int
    age_s: float
    tag: str = ""


class Backend(Protocol):
    """Objects by key. Every write is whole: no reader, at no moment, sees a part of an object."""

    @property
    def url(self) -> str:
        """The storage's address, for messages."""

    def get(self, key: str) -> bytes | None:
        """The object, or None."""

    def get_many(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        """What ``get`` says of each key, in order; for many small objects."""

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Create or replace the object."""

    def put_new(self, key: str, data: bytes) -> bool:
        """Create the object; False, and nothing changes, if it exists. One of many creators wins."""

    def compare_and_swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        """Replace the object if it still is ``expected`` (None: absent); False if it is not."""

    def info(self, key: str) -> ObjectInfo | None:
        """Size and age of the object, or None."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects under the folder-like ``prefix`` ("": all), in order of their keys."""

    def delete(self, key: str) -> bool:
        """Remove the object; False if there was none."""

    def touch(self, key: str) -> bool:
        """Set the object's age to zero, so that gc spares it; False if that is not possible."""

    def upload(
        self, key: str, source: Path, *, sha256: str | None = None, hashed: os.stat_result | None = None
    ) -> str:
        """Create or replace the object from a file, read once; the sha256 of its bytes.

        DataError, and nothing is stored, if that is not ``sha256``; without one, if the file changes
        meanwhile. ``hashed``: the file is finished, and this is its state when it was found to have
        ``sha256``. It is then not hashed again, and may become the object itself, by a hard link.
        """

    def download(self, key: str, target: Path) -> str | None:
        """Write the object to a new, read-only file; the sha256 of its bytes, or None if there is none."""

    def local_path(self, key: str) -> Path | None:
        """Where the object lies as a file that may be hard-linked and read, or None."""

    def leftovers(self) -> Iterator[ObjectInfo]:
        """What killed writers left behind; ``delete_leftover`` takes the key."""

    def delete_leftover(self, key: str) -> None:
        """Remove one of ``leftovers``."""
