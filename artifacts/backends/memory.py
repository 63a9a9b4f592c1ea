"""Objects in this process's memory, for tests: whatever can go wrong with a storage can be planned.

``memory://NAME`` means the same objects everywhere in one process, and nothing outside of it.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from artifacts.atomic import copy_into, disk_errors
from artifacts.backends.base import ObjectInfo
from artifacts.errors import ResourceError
from artifacts.paths import relative_path

ANY = "*"


@dataclass(frozen=True)
class Fault:
    """The ``nth`` call (from 1) of ``verb``, a method's name or ``ANY``, raises ``error``.

    ``applied``: its work was done before, as when only the answer is lost.
    """

    verb: str
    nth: int
    applied: bool = False
    error: type[BaseException] = ResourceError


class MemoryBackend:
    """A dictionary behind a lock. ``clock``, in seconds, decides how old an object is."""

    def __init__(
        self, name: str = "", faults: Iterable[Fault] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.calls: Counter[str] = Counter()
        self._name = name
        self.faults = list(faults)
        self._clock = clock
        self._lock = threading.RLock()
        self._objects: dict[str, tuple[bytes, float]] = {}

    @property
    def url(self) -> str:
        """``memory://NAME``."""
        return f"memory://{self._name}"

    def get(self, key: str) -> bytes | None:
        """The object, or None."""
        with self._call("get", key):
            return self._objects.get(key, (None, 0.0))[0]

    def get_many(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        """The objects, in order."""
        return map(self.get, keys)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Create or replace the object."""
        with self._call("put", key):
            self._set(key, bytes(data))

    def put_new(self, key: str, data: bytes) -> bool:
        """Create the object; False, and nothing changes, if it exists."""
        with self._call("put_new", key):
            if key in self._objects:
                return False
            self._set(key, data)
            return True

    def compare_and_swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        """Replace the object if it still is ``expected`` (None: absent)."""
        with self._call("compare_and_swap", key):
            if self._objects.get(key, (None, 0.0))[0] != expected:
                return False
            self._set(key, data)
            return True

    def info(self, key: str) -> ObjectInfo | None:
        """Size and age of the object, or None."""
        with self._call("info", key):
            return self._info(key) if key in self._objects else None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects under ``prefix``, in order of their keys."""
        with self._call("list", None):
            found = [self._info(key) for key in sorted(self._objects) if key.startswith(prefix)]
        yield from found

    def delete(self, key: str) -> bool:
        """Remove the object; False if there was none."""
        with self._call("delete", key):
            return self._objects.pop(key, None) is not None

    def touch(self, key: str) -> bool:
        """Set the object's age to zero."""
        with self._call("touch", key):
            if key not in self._objects:
                return False
            self._set(key, self._objects[key][0])
            return True

    def upload(
        self, key: str, source: Path, *, sha256: str | None = None, hashed: os.stat_result | None = None
    ) -> str:
        """Create or replace the object from a file."""
        with self._call("upload", key):
            data = BytesIO()
            found = copy_into(data, source, sha256)
            self._set(key, data.getvalue())
            return found

    def download(self, key: str, target: Path) -> str | None:
        """Write the object to a new file."""
        with self._call("download", key), disk_errors(target):
            if key not in self._objects:
                return None
            data = self._objects[key][0]
            target.write_bytes(data)
            target.chmod(0o444)
            return hashlib.sha256(data).hexdigest()

    def local_path(self, key: str) -> Path | None:
        """None: nothing here is a file."""
        relative_path(key)
        return None

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Nothing: no write is ever half done."""
        return iter(())

    def delete_leftover(self, key: str) -> None:
        """There are none."""

    @contextmanager
    def _call(self, verb: str, key: str | None) -> Iterator[None]:
        if key is not None:
            relative_path(key)
        with self._lock:
            self.calls.update((verb, ANY))
            due = [
                fault
                for fault in self.faults
                if fault.verb in (verb, ANY) and self.calls[fault.verb] == fault.nth
            ]
            for fault in due:
                if not fault.applied:
                    raise fault.error(f"{self.url}: planned fault before {verb} {key or ''}")
            yield
            for fault in due:
                raise fault.error(f"{self.url}: planned fault after {verb} {key or ''}")

    def _info(self, key: str) -> ObjectInfo:
        data, changed = self._objects[key]
        return ObjectInfo(key, len(data), max(0.0, self._clock() - changed))

    def _set(self, key: str, data: bytes) -> None:
        self._objects[key] = (data, self._clock())
