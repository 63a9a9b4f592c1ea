"""A folder of somebody's choice that appears whole or not at all, and never over something."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifacts.atomic import disk_errors, make_directories, publish_directory, temporary_name
from artifacts.errors import UsageError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to write into; it becomes ``folder`` if the block ends well, and goes if not.

    Raises UsageError if ``folder`` exists and is not an empty folder, ResourceError for a full disk and such.
    """
    final = folder.absolute()
    if final.is_symlink() or (final.exists() and not (final.is_dir() and not any(final.iterdir()))):
        raise UsageError(f"{folder} exists", "name a new folder")
    make_directories(final.parent)
    temporary = final.parent / temporary_name()
    try:
        with disk_errors(folder):
            temporary.mkdir()
            yield temporary
        try:
            publish_directory(temporary, final)
        except FileExistsError:
            raise UsageError(f"{folder} was made meanwhile", "name a new folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
