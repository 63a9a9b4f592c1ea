"""Remembers which files were hashed and right, by inode, size and time of change."""

from __future__ import annotations

import json
import time
from pathlib import Path

from artifacts.atomic import digest_into, write_file

MAX_ENTRIES = 50_000
_SETTLED_S = 2.0  # a file changed more recently may change again within one tick of its clock


class Verified:
    """The memo behind one JSON file. A damaged or missing one only costs time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[int | str]] = _read(path)
        self._changed = False

    def matches(self, path: Path, sha256: str) -> bool:
        """True if the file has that sha256; it is read only if that is not known of it yet."""
        before = path.stat()
        key = f"{before.st_dev}:{before.st_ino}"
        state: list[int | str] = [before.st_size, before.st_mtime_ns, sha256]
        if self._known.get(key) == state:
            return True
        if digest_into(path) != sha256:
            return False
        after = path.stat()
        is_settled = time.time() - after.st_mtime > _SETTLED_S
        if is_settled and (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns):
            self._known.pop(key, None)
            self._known[key] = state
            self._changed = True
        return True

    def save(self) -> None:
        """Write what was learned; nothing if nothing was."""
        if self._changed:
            newest = list(self._known.items())[-MAX_ENTRIES:]
            write_file(self._path, json.dumps(dict(newest), separators=(",", ":")), mode=0o600)
            self._changed = False


def _read(path: Path) -> dict[str, list[int | str]]:
    try:
        known = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
