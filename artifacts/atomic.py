"""Files and folders that appear whole or not at all, and stay after a power cut.

Everything is written under a temporary name in the same folder, synced, then renamed or linked to
its final name, and the folder is synced. A killed writer leaves only ``.tmp-*`` behind.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from artifacts.errors import DataError, ResourceError

TEMPORARY_PREFIX = ".tmp-"
CHUNK_BYTES = 256 << 10  # fits a core's cache, as it is read, hashed and written one after the other
# Errors of os.link that a copy mends.
NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}

_REASONS = {
    errno.ENOSPC: ("no space left on the device", "free some space and run it again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run it again"),
    errno.EFBIG: ("the file is larger than this process may write", "raise the limit: ulimit -f"),
    errno.EACCES: ("permission denied", "change the permissions, or choose another folder"),
    errno.EPERM: ("operation not permitted", "change the permissions, or choose another folder"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
    errno.EIO: ("input/output error", "check the disk"),
    errno.ENOTDIR: ("a part of the path is a file", "choose another folder"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.EMFILE: ("too many open files", "raise the limit: ulimit -n"),
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what a user can mend (space, permission, limits, disk) into a one-line ResourceError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        reason, hint = _REASONS[error.errno]
        raise ResourceError(f"{path}: {reason}", hint) from error


def sync_directory(path: Path) -> None:
    """Make the entries of the folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: Path) -> None:
    """Create ``path`` and its parents, durably; existing ones are fine."""
    with disk_errors(path):
        if path.is_dir():
            return
        make_directories(path.parent)
        with suppress(FileExistsError):
            os.mkdir(path)
            sync_directory(path.parent)


def write_file(path: Path, data: bytes | memoryview | str, *, mode: int = 0o644) -> None:
    """Write or replace ``path``: readers see the old bytes or all of the new ones."""
    with _temporary(path, lambda file: _write(file, data), mode) as temporary:
        os.replace(temporary, path)


def create_file_exclusive(path: Path, data: bytes | str, *, mode: int = 0o644) -> bool:
    """Create ``path`` whole; False, and nothing is changed, if it exists already."""
    with _temporary(path, lambda file: _write(file, data), mode) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                hint = "choose a folder on another disk"
                raise ResourceError(f"{path.parent}: this file system has no hard links", hint) from error
            raise
    return True


def copy_file(source: Path, path: Path, *, sha256: str | None = None, mode: int = 0o644) -> str:
    """Copy ``source`` over ``path``; the sha256 of the bytes.

    Raises DataError if it is not ``sha256``, or without one if the file changes meanwhile.
    """
    found = ""

    def copy(file: BinaryIO) -> None:
        nonlocal found
        found = copy_into(file, source, sha256)

    with _temporary(path, copy, mode) as temporary:
        os.replace(temporary, path)
    return found


def link_file(source: Path, path: Path, *, hashed: os.stat_result, mode: int = 0o444) -> bool:
    """Make ``path`` another name of ``source``; False, and nothing is changed, where no link is possible.

    ``hashed``: its state when it was hashed. Raises DataError if it is another one now.
    """
    make_directories(path.parent)
    temporary = path.parent / temporary_name()
    with disk_errors(path):
        try:
            os.link(source, temporary, follow_symlinks=False)
        except OSError as error:
            if error.errno in NO_LINK:
                return False
            raise
        try:
            temporary.chmod(mode)
            _sync_file(temporary)
            if file_state(temporary.lstat()) != file_state(hashed):
                raise changed_error(source)
            os.replace(temporary, path)
            sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)  # rename leaves it if both are links to one file
    return True


def digest_into(source: Path, target: BinaryIO | None = None) -> str:
    """The sha256 of the file ``source`` in hex; its bytes are also written to ``target`` if given."""
    digest, chunk = hashlib.sha256(), memoryview(bytearray(CHUNK_BYTES))
    with disk_errors(source), source.open("rb", buffering=0) as file:
        while size := file.readinto(chunk):
            digest.update(chunk[:size])
            if target is not None:
                target.write(chunk[:size])
    return digest.hexdigest()


def copy_into(target: BinaryIO, source: Path, sha256: str | None) -> str:
    """Write the bytes of the file ``source`` to ``target``; their sha256. DataError as from ``copy_file``."""
    with disk_errors(source):
        before = file_state(source.stat())
        found = digest_into(source, target)
        is_same = found == sha256 if sha256 else file_state(source.stat()) == before
    if not is_same:
        raise changed_error(source)
    return found


def publish_directory(temporary: Path, final: Path) -> None:
    """Sync every file and folder of ``temporary``, rename it to ``final``, sync the parent.

    Raises FileExistsError if ``final`` exists and is not an empty folder.
    """
    with disk_errors(final):
        for folder, _, names in os.walk(temporary, topdown=False):
            for name in names:
                _sync_file(Path(folder, name))
            sync_directory(Path(folder))
        try:
            os.rename(temporary, final)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(errno.EEXIST, "published already", str(final)) from error
            raise
        sync_directory(final.parent)


def file_state(status: os.stat_result) -> tuple[int, int, int]:
    """What differs after any change of a file: inode, bytes, time of the last change in ns."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def changed_error(source: Path) -> DataError:
    """``source`` is not what it was when it was hashed."""
    return DataError(f"{source.name} changed while it was stored", "stop what writes to it and run again")


def temporary_name() -> str:
    """A fresh name that no reader takes for a finished file or folder."""
    return f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"


@contextmanager
def _temporary(path: Path, fill: Callable[[BinaryIO], None], mode: int) -> Iterator[Path]:
    """A synced file beside ``path``, for the caller to rename or link; removed if it is still there."""
    make_directories(path.parent)
    temporary = path.parent / temporary_name()
    with disk_errors(path):
        try:
            with temporary.open("xb") as file:
                fill(file)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            yield temporary
            sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _write(file: BinaryIO, data: bytes | memoryview | str) -> None:
    file.write(data.encode("utf-8") if isinstance(data, str) else data)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
