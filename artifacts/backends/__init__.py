"""Where a store keeps its objects. A new backend is one file here and one entry in ``BACKENDS``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from artifacts.backends.base import Backend, ObjectInfo
from artifacts.backends.local import LocalBackend
from artifacts.errors import ResourceError, UsageError

__all__ = ["BACKENDS", "Backend", "LocalBackend", "ObjectInfo", "open_backend"]


def _local(url: str) -> Backend:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise UsageError(f"store {url!r}: not an absolute file URL", "write file:///absolute/folder")
    return LocalBackend(Path(unquote(parts.path)))


BACKENDS: dict[str, Callable[[str], Backend]] = {"file": _local}
_PLANNED = ("s3",)


def open_backend(url: str) -> Backend:
    """The backend of a URL, or of a folder's path. Raises ResourceError if there is none for it."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        return LocalBackend(Path(url).expanduser())
    if scheme in BACKENDS:
        return BACKENDS[scheme](url)
    if scheme in _PLANNED:
        raise ResourceError(f"store {scheme}://: not supported yet", "use a folder")
    raise UsageError(
        f"store scheme {scheme[:20]!r} is unknown", f"use a folder or one of {', '.join(BACKENDS)}"
    )
