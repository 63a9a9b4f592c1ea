"""Every version of a store with what a list shows of it, read from the small records behind the names.

Where these records are in a bucket, those that were read once are kept on this machine: a version's
never changes, and an alias's grows with each move.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.atomic import write_file
from artifacts.names import Pointer, Summary, decode_alias
from artifacts.paths import home
from artifacts.ref import ArtifactRef

if TYPE_CHECKING:
    from artifacts.store import Store

_FOLDERS = (layout.NAMES, layout.ALIASES)


@dataclass(frozen=True)
class Listed:
    """One version: its ref, the aliases that point to it, its digest, and its manifest in short."""

    ref: ArtifactRef
    aliases: tuple[str, ...]
    digest: str
    summary: Summary


def listing(store: Store, kind: str | None = None, name: str | None = None) -> list[Listed]:
    """Every version, of all kinds, one kind, or one name, in order. DataError names a damaged one."""
    records = _Records(store)
    names, moved = (records.read(layout.under(folder, kind, name)) for folder in _FOLDERS)
    records.save()
    aliases: dict[tuple[str, str, int], list[str]] = defaultdict(list)
    for key, data in moved.items():
        if parsed := layout.alias_of(key):
            aliases[(*parsed[:2], decode_alias(key, data).version)].append(parsed[2])
    found = []
    for key, data in names.items():
        parts = layout.version_of(key)
        if parts is None or name not in (None, parts[1]):
            continue
        pointer = Pointer.decode(key, data)
        summary = pointer.summary or Summary.of(store.manifest(pointer))
        found.append((parts, Listed(ArtifactRef(*parts), tuple(aliases[parts]), pointer.digest, summary)))
    return [listed for _, listed in sorted(found, key=lambda item: item[0])]


class _Records:
    """The records under a prefix; of a bucket, only those are fetched that are not here as they are now."""

    def __init__(self, store: Store) -> None:
        self._backend = store.backend
        name = hashlib.sha256(store.backend.url.encode()).hexdigest()[:16]
        self._path = home() / "cache" / "records" / f"{name}.json"
        self._kept: dict[str, list[str]] = {}
        with suppress(FileNotFoundError, ValueError, TypeError):  # a damaged one only costs time
            self._kept = dict(json.loads(self._path.read_bytes()))
        self._is_new = False

    def read(self, prefix: str) -> dict[str, bytes]:
        """Key -> record; one that vanishes meanwhile is left out."""
        tags = {info.key: info.tag for info in self._backend.list(prefix)}
        found = {key: record.encode() for key, tag in tags.items() if (record := self._as_it_is(key, tag))}
        missing = [key for key in tags if key not in found]
        for key, data in zip(missing, self._backend.get_many(missing), strict=True):
            if data is not None:
                found[key] = data
                if tags[key]:
                    self._kept[key] = [tags[key], data.decode("ascii", "replace")]
                    self._is_new = True
        return found

    def _as_it_is(self, key: str, tag: str) -> str | None:
        known = self._kept.get(key)
        return known[1] if tag and isinstance(known, list) and known[0] == tag else None

    def save(self) -> None:
        """Keep what was fetched."""
        if self._is_new:
            write_file(self._path, json.dumps(self._kept, separators=(",", ":")), mode=0o600)
