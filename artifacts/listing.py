"""Every version of a store with what a list shows of it, read from the small records behind the names.

In a bucket each of them is a request. So those that were read once are kept on this machine, and gc puts
all of them into one object for machines that have read none. A listing says which are still as they were.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
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
    names, moved = _read(store, [layout.under(folder, kind, name) for folder in _FOLDERS])
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


def _read(store: Store, prefixes: list[str]) -> list[dict[str, bytes]]:
    """The records under each prefix."""
    if _is_local(store):
        return [_Records(store, {}).read(prefix) for prefix in prefixes]
    path = _kept_here(store)
    is_first = not path.exists()
    kept = _decode(store.backend.get(layout.INDEX) if is_first else path.read_bytes())
    records = _Records(store, kept)
    found = [records.read(prefix) for prefix in prefixes]
    if records.has_changed or (is_first and kept):
        write_file(path, records.encode(), mode=0o600)
    return found


def write_index(store: Store) -> None:
    """Put every record into one object of the bucket, if that one is not up to date. Nothing on a disk."""
    if _is_local(store):
        return
    index = _Records(store, _decode(store.backend.get(layout.INDEX)))
    for folder in _FOLDERS:
        index.read(f"{folder}/")
    if index.has_changed:
        store.backend.put(layout.INDEX, index.encode())


class _Records:
    """The records under a prefix; only those are fetched that are not in ``kept`` as they are now."""

    def __init__(self, store: Store, kept: dict[str, list[str]]) -> None:
        self._backend = store.backend
        self._kept = kept
        self.has_changed = False

    def read(self, prefix: str) -> dict[str, bytes]:
        """Key -> record; one that vanishes meanwhile is left out."""
        tags = {info.key: info.tag for info in self._backend.list(prefix)}
        found = {key: record.encode() for key, tag in tags.items() if (record := self._as_it_is(key, tag))}
        for key in [key for key in self._kept if key.startswith(prefix) and key not in found]:
            del self._kept[key]
            self.has_changed = True
        missing = [key for key in tags if key not in found]
        for key, data in zip(missing, self._backend.get_many(missing), strict=True):
            if data is not None:
                found[key] = data
                if tags[key]:
                    self._kept[key] = [tags[key], data.decode("ascii", "replace")]
                    self.has_changed = True
        return found

    def encode(self) -> bytes:
        """What to keep."""
        return json.dumps(self._kept, separators=(",", ":")).encode()

    def _as_it_is(self, key: str, tag: str) -> str | None:
        known = self._kept.get(key)
        return known[1] if tag and isinstance(known, list) and known[0] == tag else None


def _kept_here(store: Store) -> Path:
    name = hashlib.sha256(store.backend.url.encode()).hexdigest()[:16]
    return home() / "cache" / "records" / f"{name}.json"


def _decode(data: bytes | None) -> dict[str, list[str]]:
    """What was kept; nothing if it is damaged, which only costs time."""
    with suppress(ValueError, TypeError):
        return dict(json.loads(data or b""))
    return {}


def _is_local(store: Store) -> bool:
    return store.backend.local_path(layout.STORE) is not None
