"""Blobs of a remote store that were downloaded once, up to a limit of bytes: the least recently used go.

A checkout links to these files, so a blob takes its space once, and goes only after the views that use it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

from artifacts import layout
from artifacts.atomic import TEMPORARY_PREFIX, disk_errors, make_directories
from artifacts.backends.base import Backend
from artifacts.errors import UsageError
from artifacts.paths import home

DEFAULT_GB = 50.0
VIEW_IN_USE_S = 24 * 3600.0  # checked out since then, a stage that still runs may read it
BLOB_IN_USE_S = 3600.0  # fetched since then, a checkout may be about to link to it


class BlobCache:
    """``folder`` holds the files, ``views`` the checkouts that link to them."""

    def __init__(self, folder: Path, views: Path, limit_bytes: int) -> None:
        self.folder, self._views, self._limit_bytes = folder, views, limit_bytes

    @classmethod
    def default(cls, views: Path) -> BlobCache:
        """Under $NANOCHAT_HOME, limited to NANOCHAT_CACHE_GB (50)."""
        text = os.environ.get("NANOCHAT_CACHE_GB") or str(DEFAULT_GB)
        try:
            limit_bytes = int(float(text) * 1e9)
        except ValueError:
            raise UsageError(f"NANOCHAT_CACHE_GB = {text!r} is no number", "change or unset it") from None
        return cls(home() / "cache" / "blobs", views, limit_bytes)

    def fetch(self, backend: Backend, sha256: str) -> tuple[Path | None, str | None]:
        """The blob's file, None if the store has none; and its true sha256 if it was downloaded now."""
        path, came = self.folder / sha256, None
        with disk_errors(self.folder):
            make_directories(self.folder)
            # One download of a blob at a time; a killed one leaves its parts here, and the next goes on.
            partial = self.folder / f"{TEMPORARY_PREFIX}{sha256}"
            with (self.folder / f"{TEMPORARY_PREFIX}{sha256}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    came = backend.download(layout.blob(sha256), partial)
                    if came is None:
                        return None, None
                    os.replace(partial, path)
            os.utime(path)
            Path(lock.name).unlink(missing_ok=True)
        return path, came

    def drop(self, sha256: str) -> None:
        """Forget a blob whose bytes turned out to be wrong."""
        (self.folder / sha256).unlink(missing_ok=True)

    def trim(self) -> None:
        """Until the limit holds: remove blobs that no view uses, then views and what only they used."""
        over = self._drop_unused(sum(status.st_size for _, status in self._blobs()) - self._limit_bytes)
        for view, unused_s in _by_age(self._views):
            if over <= 0 or unused_s < VIEW_IN_USE_S:
                return
            shutil.rmtree(view, ignore_errors=True)
            over = self._drop_unused(over)

    def _drop_unused(self, over: int) -> int:
        """Remove up to ``over`` bytes, the least recently used first; returns how many are still over."""
        for path, status in sorted(self._blobs(), key=lambda item: item[1].st_mtime):
            if over > 0 and status.st_nlink == 1 and time.time() - status.st_mtime > BLOB_IN_USE_S:
                path.unlink(missing_ok=True)
                over -= status.st_size
        return over

    def _blobs(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if not path.name.startswith("."):
                found.append((path, path.stat()))
        return found


def _by_age(parent: Path) -> list[tuple[Path, float]]:
    """The folders of a folder with the seconds since each was used, the longest unused first."""
    now = time.time()
    folders = [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    ages = [(path, now - path.stat().st_mtime) for path in folders]
    return sorted(ages, key=lambda item: -item[1])
