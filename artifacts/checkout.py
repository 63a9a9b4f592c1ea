"""Makes an artifact a read-only folder that a stage can read: hard links where possible, else copies."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.atomic import NO_LINK, disk_errors, make_directories, temporary_name
from artifacts.cache import BlobCache
from artifacts.manifest import FileEntry, Manifest
from artifacts.names import Pointer
from artifacts.paths import home, safe_join
from artifacts.verified import Verified
from artifacts.verify import MISSING, WRONG_BYTES, damaged

if TYPE_CHECKING:
    from artifacts.store import Store

_AT_ONCE = 4  # files under way


def checkout(store: Store, manifest: Manifest, view_root: Path) -> Path:
    """A folder under ``view_root`` with the payload at its root and ``run/``; every sha256 is verified.

    An existing folder is mended: what does not belong there is removed, damaged files are replaced.
    Raises DataError that names the file if the store's own copy is damaged.
    """
    view = view_root / f"{manifest.kind}-{manifest.hex[:16]}"
    verified = Verified(home() / "cache" / "verified.json")
    cache = None if store.is_here else BlobCache.default(view_root)
    source = _Source(store, manifest, view_root, verified, cache)
    with disk_errors(view_root):
        make_directories(view_root)
        if view.is_dir() or not _build(source, view):
            _remove_foreign(view, manifest)
            source.place_all(view)
        os.utime(view)  # when it was used last
        verified.save()
    if source.cache:
        source.cache.trim()
    return view


@dataclass(frozen=True)
class _Source:
    """Where the files of one artifact come from, and ``scratch``, a folder for half-made ones."""

    store: Store
    manifest: Manifest
    scratch: Path
    verified: Verified
    cache: BlobCache | None

    def place_all(self, folder: Path) -> None:
        """Put every file into ``folder`` that is not there, intact; a few at a time."""

        def place(item: tuple[str, FileEntry]) -> None:
            target = safe_join(folder, item[0])
            if not (target.is_file() and self.verified.matches(target, item[1].sha256)):
                self.place(*item, target)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(place, self.manifest.all_files().items()):
                pass

    def place(self, path: str, entry: FileEntry, target: Path) -> None:
        """Put a verified, read-only file at ``target`` by one rename."""
        temporary = self.scratch / temporary_name()
        try:
            if not (self._fetch(path, entry, temporary) or self._fetch_again(path, entry, temporary)):
                raise damaged(self.store, Pointer.to(self.manifest), path, WRONG_BYTES)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)  # rename leaves it if both are links to one file

    def _fetch(self, path: str, entry: FileEntry, temporary: Path) -> bool:
        """Make ``temporary`` the file; False if it does not have its sha256."""
        came: str | None = None
        stored = self.store.backend.local_path(layout.blob(entry.sha256))
        if self.cache:
            stored, came = self.cache.fetch(self.store.backend, entry.sha256)
        if stored is None or not _link(stored, temporary):
            raise damaged(self.store, Pointer.to(self.manifest), path, MISSING)
        return came == entry.sha256 or self.verified.matches(temporary, entry.sha256)

    def _fetch_again(self, path: str, entry: FileEntry, temporary: Path) -> bool:
        """Where it was the cached copy that is damaged, another download is right."""
        if self.cache is None:
            return False
        self.cache.drop(entry.sha256)
        temporary.unlink()
        return self._fetch(path, entry, temporary)


def _link(stored: Path, temporary: Path) -> bool:
    """Another name for a stored file, or a copy where that cannot be; False if it is not there."""
    try:
        os.link(stored, temporary)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        shutil.copyfile(stored, temporary)
        temporary.chmod(0o444)
    return True


def _build(source: _Source, view: Path) -> bool:
    """Make the whole folder and give it its name by one rename; False if another process was faster."""
    temporary = view.parent / temporary_name()
    try:
        temporary.mkdir()
        source.place_all(temporary)
        try:
            os.rename(temporary, view)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
        return True
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_foreign(view: Path, manifest: Manifest) -> None:
    expected = manifest.all_files().keys()
    for path in sorted(view.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                path.rmdir()  # only an empty one goes
        elif path.is_symlink() or path.relative_to(view).as_posix() not in expected:
            path.unlink(missing_ok=True)
