"""Where a store keeps its objects. A new backend is one file here and one entry in ``BACKENDS``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from artifacts.backends.base import Backend, ObjectInfo
from artifacts.backends.local import LocalBackend
from artifacts.errors import UsageError
from artifacts.paths import relative_path
from artifacts.redact import redact_text

__all__ = ["BACKENDS", "Backend", "LocalBackend", "ObjectInfo", "open_backend"]


def _local(url: str) -> Backend:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise UsageError(f"store {url!r}: not an absolute file URL", "write file:///absolute/folder")
    return LocalBackend(Path(unquote(parts.path)))


def _memory(url: str) -> Backend:
    from artifacts.backends.memory import MemoryBackend

    return _MEMORY.setdefault(url, MemoryBackend(urlsplit(url).netloc))


def _s3(url: str) -> Backend:
    from artifacts.backends.s3 import S3Backend

    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageError(
            f"store {redact_text(url)!r}: not a bucket", "write s3://BUCKET or s3://BUCKET/PREFIX"
        )
    unsafe = bool(os.environ.get("NANOCHAT_ALLOW_UNSAFE_STORE"))
    return S3Backend(parts.netloc, relative_path(prefix) if prefix else "", allow_unsafe=unsafe)


_MEMORY: dict[str, Backend] = {}
BACKENDS: dict[str, Callable[[str], Backend]] = {"file": _local, "memory": _memory, "s3": _s3}


def open_backend(url: str) -> Backend:
    """The backend of a URL, or of a folder's path. Raises UsageError if there is none for it."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        return LocalBackend(Path(url).expanduser())
    if scheme in BACKENDS:
        return BACKENDS[scheme](url)
    raise UsageError(
        f"store scheme {scheme[:20]!r} is unknown", f"use a folder or one of {', '.join(BACKENDS)}"
    )
