"""Makes an artifact a read-only folder that a stage can read: hard links where possible, else copies."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.atomic import disk_errors, make_directories, temporary_name
from artifacts.manifest import FileEntry, Manifest
from artifacts.names import Pointer
from artifacts.paths import home, safe_join
from artifacts.verified import Verified
from artifacts.verify import damaged

if TYPE_CHECKING:
    from artifacts.store import Store

_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}


def checkout(store: Store, manifest: Manifest, view_root: Path) -> Path:
    """A folder under ``view_root`` with the payload at its root and ``run/``; every sha256 is verified.

    An existing folder is mended: what does not belong there is removed, damaged files are replaced.
    Raises DataError that names the file if the store's own copy is damaged.
    """
    view = view_root / f"{manifest.kind}-{manifest.hex[:16]}"
    verified = Verified(home() / "cache" / "verified.json")
    with disk_errors(view_root):
        make_directories(view_root)
        if not view.is_dir():
            _build(store, manifest, view, verified)
        _remove_foreign(view, manifest)
        for path, entry in manifest.all_files().items():
            target = safe_join(view, path)
            if not (target.is_file() and verified.matches(target, entry.sha256)):
                _place(store, manifest, path, entry, target, view_root, verified)
        verified.save()
    return view


def _build(store: Store, manifest: Manifest, view: Path, verified: Verified) -> None:
    temporary = view.parent / temporary_name()
    try:
        temporary.mkdir()
        for path, entry in manifest.all_files().items():
            _place(store, manifest, path, entry, safe_join(temporary, path), view.parent, verified)
        try:
            os.rename(temporary, view)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise  # otherwise another process has just built it
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _place(
    store: Store,
    manifest: Manifest,
    path: str,
    entry: FileEntry,
    target: Path,
    scratch: Path,
    verified: Verified,
) -> None:
    """Put a verified file at ``target`` by one rename."""
    key = layout.blob(entry.sha256)
    source = store.backend.local_path(key)
    temporary = scratch / temporary_name()
    try:
        if source is not None and source.is_file() and verified.matches(source, entry.sha256):
            _link_or_copy(source, temporary)
        elif source is not None or not store.backend.download(key, temporary):
            what = (
                "does not have its sha256" if store.backend.size(key) == entry.size else "is missing or cut"
            )
            raise damaged(store, Pointer.to(manifest), path, what)
        if not verified.matches(temporary, entry.sha256):
            raise damaged(store, Pointer.to(manifest), path, "does not have its sha256")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # rename leaves it if both are links to one file


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)
        target.chmod(0o444)


def _remove_foreign(view: Path, manifest: Manifest) -> None:
    expected = manifest.all_files().keys()
    for path in sorted(view.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.is_symlink() or path.relative_to(view).as_posix() not in expected:
            path.unlink()
