"""What a path may look like: one grammar for names, one for files of an artifact, one safe join.

Paths in the store are built from checked segments only, never from titles or other free text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from artifacts.errors import UsageError

_SEGMENT = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_FILE_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._+=-]{0,127}(?<!\.)"
_RELATIVE_PATH = re.compile(rf"(?=.{{1,1024}}\Z){_FILE_SEGMENT}(?:/{_FILE_SEGMENT})*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def home() -> Path:
    """$NANOCHAT_HOME, by default ~/.cache/nanochat-pipeline; read at every call, never at import."""
    return Path(os.environ.get("NANOCHAT_HOME") or "~/.cache/nanochat-pipeline").expanduser()


def segment(text: str, what: str = "name") -> str:
    """``text`` itself if it is a legal name: 1 to 64 of a-z 0-9 . _ -, ending in letters or digits."""
    if not _SEGMENT.fullmatch(text):
        raise UsageError(
            f"{what} {text[:80]!r} is not allowed", "use 1 to 64 of a-z 0-9 . _ - and no / or space"
        )
    return text


def is_sha256(text: str) -> bool:
    """True for 64 lower-case hex digits."""
    return _SHA256.fullmatch(text) is not None


def is_relative_path(text: str) -> bool:
    """True for a legal relative path of an object or of a file in an artifact.

    Slash-separated segments of letters, digits and . _ + = -; none is empty, hidden, or ``..``.
    """
    return _RELATIVE_PATH.fullmatch(text) is not None


def relative_path(text: str) -> str:
    """``text`` itself if it ``is_relative_path``."""
    if not is_relative_path(text):
        raise UsageError(
            f"path {text[:80]!r} is not allowed", "use letters, digits and . _ + = - between slashes"
        )
    return text


def safe_join(root: Path, path: str) -> Path:
    """``root / path`` for a legal relative path; it stays inside ``root`` even through symbolic links."""
    joined = root / relative_path(path)
    if not joined.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"path {path!r} leaves {root}", "remove the symbolic link")
    return joined
