"""Objects as files of one folder. Whole by temporary file and rename; exclusive by hard link."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

from artifacts.atomic import (
    TEMPORARY_PREFIX,
    copy_file,
    create_file_exclusive,
    digest_into,
    disk_errors,
    link_file,
    make_directories,
    sync_directory,
    write_file,
)
from artifacts.backends.base import ObjectInfo
from artifacts.errors import DataError
from artifacts.paths import is_relative_path, relative_path

_LOCK = ".lock"
_CHUNK_BYTES = 64 << 10


class LocalBackend:
    """A folder; it is created at the first write. Blobs uploaded from files are read-only."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def url(self) -> str:
        """The folder."""
        return str(self.root)

    def get(self, key: str) -> bytes | None:
        """The object, or None."""
        path = self._path(key)
        with disk_errors(path):
            return _read(str(path))

    def get_many(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        """The objects, in order."""
        root = str(self.root)
        with disk_errors(self.root):
            for key in keys:
                yield _read(f"{root}/{relative_path(key)}")

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Create or replace the object."""
        write_file(self._path(key), data)

    def put_new(self, key: str, data: bytes) -> bool:
        """Create the object; False, and nothing changes, if it exists."""
        return create_file_exclusive(self._path(key), data)

    def compare_and_swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        """Replace the object if it still is ``expected`` (None: absent)."""
        if expected is None:
            return self.put_new(key, data)
        with self._locked():
            if self.get(key) != expected:
                return False
            self.put(key, data)
            return True

    def info(self, key: str) -> ObjectInfo | None:
        """Size and age of the object, or None."""
        return _info(key, self._path(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects under ``prefix``, in order of their keys."""
        folder = f"{relative_path(prefix.rstrip('/'))}/" if prefix else ""
        found = [info for info in self._walk(folder) if is_relative_path(info.key)]
        yield from sorted(found, key=attrgetter("key"))

    def delete(self, key: str) -> bool:
        """Remove the object; False if there was none."""
        path = self._path(key)
        with disk_errors(path):
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            sync_directory(path.parent)
            return True

    def touch(self, key: str) -> bool:
        """Set the object's age to zero; False also for a file of another user."""
        path = self._path(key)
        with disk_errors(path):
            try:
                os.utime(path)
            except (FileNotFoundError, PermissionError):
                return False
            return True

    def upload(
        self, key: str, source: Path, *, sha256: str | None = None, hashed: os.stat_result | None = None
    ) -> str:
        """Create or replace the object from a file, read-only; ``hashed``: by a hard link if possible."""
        path = self._path(key)
        if sha256 and hashed and link_file(source, path, hashed=hashed):
            return sha256
        return copy_file(source, path, sha256=sha256, mode=0o444)

    def download(self, key: str, target: Path) -> str | None:
        """Copy the object to a new file."""
        path = self._path(key)
        with disk_errors(target):
            if not path.is_file():
                return None
            with target.open("wb") as file:
                sha256 = digest_into(path, file)
            target.chmod(0o444)
            return sha256

    def local_path(self, key: str) -> Path | None:
        """The object's own file."""
        return self._path(key)

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Temporary files of killed writers."""
        for info in self._walk(""):
            if info.key.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
                yield info

    def delete_leftover(self, key: str) -> None:
        """Remove one temporary file."""
        assert key.rpartition("/")[2].startswith(TEMPORARY_PREFIX), key
        (self.root / key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / relative_path(key)

    def _walk(self, folder: str) -> Iterator[ObjectInfo]:
        """Every file under ``folder`` ("" or with a slash at its end). Links to folders are left out."""
        pending = [folder]
        while pending:
            folder = pending.pop()
            for entry in _entries(f"{self.root}/{folder}"):
                key = folder + entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{key}/")
                elif not (entry.is_symlink() and os.path.isdir(entry)) and (info := _info(key, entry)):
                    yield info

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_directories(self.root)
        path = self.root / _LOCK
        with disk_errors(path), path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _read(path: str) -> bytes | None:
    """The bytes of a file, or None, without the cost of a file object."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DataError(f"{path} is a symbolic link", "a store holds none: remove it") from error
        raise
    try:
        parts = []
        while part := os.read(descriptor, _CHUNK_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing if it is absent."""
    with disk_errors(Path(folder)):
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except FileNotFoundError:
            return []


def _info(key: str, place: Path | os.DirEntry[str]) -> ObjectInfo | None:
    try:
        status = place.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError:
        with disk_errors(Path(place)):
            raise
    return ObjectInfo(key, status.st_size, max(0.0, time.time() - status.st_mtime))
