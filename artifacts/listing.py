"""What lists show of every version: one small record for each name, so that a list of ten thousand versions
asks the storage for one listing, and reads only what changed since this machine last asked.

A record is derived from names/ and aliases/, which alone say what is true. Whoever changes those writes it
anew (``relist``), and gc what a killed one left undone (``mend``). Nothing is decided by it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from artifacts import layout
from artifacts.atomic import write_file
from artifacts.errors import DataError, UsageError
from artifacts.names import Names, Pointer, decode_alias
from artifacts.paths import home
from artifacts.ref import ArtifactRef

if TYPE_CHECKING:
    from artifacts.backends.base import Backend
    from artifacts.manifest import Manifest

Versions = Mapping[int, "Entry | None"]
Name = tuple[str, str]  # kind, name
_TYPES = (str, str, str, str, int, str)  # of an entry, but for its value


class Entry(NamedTuple):
    """What a version points to, in short."""

    manifest: str
    digest: str
    stage: str
    created: str
    bytes: int
    key_metric: str
    value: int | float | str | None

    @classmethod
    def of(cls, manifest: Manifest) -> Entry:
        """What lists show of a manifest."""
        value = manifest.metrics.get(manifest.key_metric)
        return cls(
            manifest.hex, manifest.digest, manifest.stage, manifest.created, manifest.total_bytes,
            manifest.key_metric, value,
        )  # fmt: skip

    @classmethod
    def checked(cls, values: Any) -> Entry:
        """The entry in a JSON list; TypeError if it is none."""
        entry = cls(*values)
        if tuple(map(type, entry[:-1])) != _TYPES or not isinstance(entry.value, int | float | str | None):
            raise TypeError
        return entry

    @property
    def pointer(self) -> Pointer:
        """What the version's name holds."""
        return Pointer(self.stage, self.manifest, self.digest)


class Listed(NamedTuple):
    """One version: its ref, the aliases that point to it, and what lists show of it."""

    ref: ArtifactRef
    aliases: tuple[str, ...]
    entry: Entry

    @property
    def made(self) -> tuple[str, int]:
        """When it was made, for what is newest; of two versions of one second the higher one is."""
        return self.entry.created, self.ref.version or 0


class _Record(NamedTuple):
    """What is stored for one name. A version's entry is None if it was damaged when that was written."""

    versions: Versions
    aliases: Mapping[str, int]

    def encode(self) -> bytes:
        entries = {str(number): entry for number, entry in self.versions.items()}
        # Never the same bytes twice: whoever holds old ones has to lose, also if all is as it was then.
        return layout.encode(
            {"schema": 1, "versions": entries, "aliases": dict(self.aliases), "edit": secrets.token_hex(8)}
        )

    @classmethod
    def of(cls, record: Any) -> _Record | None:
        """The record in a JSON value; None if it is damaged, or of a kind that this program does not know."""
        try:
            entries = {
                int(number): None if entry is None else Entry.checked(entry)
                for number, entry in record["versions"].items()
            }
            found = cls(entries, dict(record["aliases"]))
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        return found if all(isinstance(number, int) for number in found.aliases.values()) else None


def listing(backend: Backend, kind: str | None = None, name: str | None = None) -> list[Listed]:
    """Every version, of all kinds, one kind, or one name, in order. DataError names a damaged one."""
    found = []
    for (its_kind, its_name), record in sorted(_records(backend, kind, name).items()):
        pointing: dict[int, list[str]] = {}
        for text, number in sorted(record.aliases.items()):
            pointing.setdefault(number, []).append(text)
        for number, entry in sorted(record.versions.items()):
            ref = ArtifactRef(its_kind, its_name, version=number)
            if entry is None:
                raise DataError(f"{ref} is damaged", f"nanochat art verify {ref} says what is wrong")
            found.append(Listed(ref, tuple(pointing.get(number, ())), entry))
    return found


def is_listed(backend: Backend, ref: ArtifactRef) -> bool:
    """False if whoever published this version was killed before lists show it."""
    record = _decode(backend.get(layout.listed(ref.kind, ref.name)))
    return record is not None and ref.version in record.versions


def relist(backend: Backend, kind: str, name: str, known: Versions | None = None) -> None:
    """Write what lists show of a name, after its versions or aliases changed.

    Of many at once the last one read all that the others had changed before it. ``known``: entries that
    are believed more than those written now; None reads that version again.
    """
    key = layout.listed(kind, name)
    while True:
        data = backend.get(key)
        old = _decode(data)
        new = _derived(backend, kind, name, {**(old.versions if old else {}), **(known or {})})
        if (data is None and not new.versions) or backend.compare_and_swap(key, data, new.encode()):
            return


def mend(backend: Backend, truth: Mapping[Name, Mapping[int, Entry]]) -> None:
    """Write the record of each name anew that does not say the truth."""
    written = dict(_written(backend, layout.under(layout.LISTS, None, None)))
    aliases = _all_aliases(backend)
    for at in sorted(truth.keys() | written.keys()):
        if written.get(at) != _Record(truth.get(at, {}), aliases.get(at, {})):
            relist(backend, *at, truth.get(at))


def contradictions(backend: Backend, truth: Mapping[Name, Mapping[int, Entry]]) -> Iterator[tuple[str, str]]:
    """(Key, what is wrong) of records that are damaged or show another artifact than there is.

    One that shows too little or too much is not damaged: somebody may be writing it now.
    """
    for at, record in _written(backend, layout.under(layout.LISTS, None, None)):
        if record is None:
            yield layout.listed(*at), "is not what lists can show"
            continue
        for number, entry in sorted(truth.get(at, {}).items()):
            if record.versions.get(number) not in (None, entry):
                yield layout.listed(*at), f"shows another artifact as v{number}"


def _records(backend: Backend, kind: str | None, name: str | None) -> dict[Name, _Record]:
    if kind is not None and name is not None:
        one = _decode(backend.get(layout.listed(kind, name)))
        return {(kind, name): one or _derived(backend, kind, name, {})}
    found = {
        at: record or _derived(backend, *at, {})
        for at, record in _written(backend, layout.under(layout.LISTS, kind, None))
        if name in (None, at[1])
    }
    if found:
        return found
    refs = Names(backend).version_keys(kind, name)  # maybe of a store that has no lists yet
    return {at: _derived(backend, *at, {}) for at in sorted({(ref.kind, ref.name) for ref in refs})}


def _written(backend: Backend, prefix: str) -> Iterator[tuple[Name, _Record | None]]:
    """Every record under a prefix; None for a damaged one."""
    for key, record in _Kept(backend).read(prefix):
        if (at := layout.listed_of(key)) is not None:
            yield at, _Record.of(record)


class _Kept:
    """Records as JSON values; those of a storage that tags its objects are kept on this machine."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        name = hashlib.sha256(backend.url.encode()).hexdigest()[:16]
        self._path = home() / "cache" / "lists" / f"{name}.json"

    def read(self, prefix: str) -> list[tuple[str, Any]]:
        """Key and record; only what is not here as it is now is asked for."""
        tags = {info.key: info.tag for info in self._backend.list(prefix)}
        kept = self._load() if any(tags.values()) else {}
        found = {key: kept[key] for key, tag in tags.items() if tag and kept.get(key, [None])[0] == tag}
        missing = [key for key in tags if key not in found]
        for key, data in zip(missing, self._backend.get_many(missing), strict=True):
            if data is not None:
                found[key] = [tags[key], _json(data)]
        others = {key: value for key, value in kept.items() if not key.startswith(prefix)}
        if (missing and any(tags.values())) or len(others) + len(found) < len(kept):
            text = json.dumps(others | {key: found[key] for key in found if found[key][0]})
            write_file(self._path, text, mode=0o600)
        return [(key, found[key][1]) for key in tags if key in found]

    def _load(self) -> dict[str, list[Any]]:
        """Nothing if it is damaged, which only costs time."""
        with suppress(OSError, ValueError, TypeError):
            kept = dict(json.loads(self._path.read_bytes()))
            return {key: value for key, value in kept.items() if isinstance(value, list) and len(value) == 2}
        return {}


def _derived(backend: Backend, kind: str, name: str, known: Versions) -> _Record:
    """The record of a name as names/ and aliases/ are now; entries that are not known are read."""
    names = Names(backend)
    numbers = [ref.version or 0 for ref in names.version_keys(kind, name)]
    unknown = [number for number in numbers if known.get(number) is None]
    read = dict(zip(unknown, _entries(backend, kind, name, unknown), strict=True))
    versions = {number: known.get(number) or read[number] for number in numbers}
    aliases = {}
    for info in backend.list(layout.aliases(kind, name)):
        with suppress(DataError, UsageError):  # a damaged one points nowhere
            if (parts := layout.alias_of(info.key)) and (alias := names.alias(*parts)):
                aliases[parts[2]] = alias.version
    return _Record(versions, aliases)


def _entries(backend: Backend, kind: str, name: str, numbers: list[int]) -> Iterator[Entry | None]:
    """What to show of these versions, read from their manifests; None for a damaged one."""
    if not numbers:
        return
    from artifacts.manifest import Manifest  # not for a list, which reads none and should be quick

    keys = [layout.version(kind, name, number) for number in numbers]
    pointers = [_pointer(key, data or b"") for key, data in zip(keys, backend.get_many(keys), strict=True)]
    wanted = [layout.manifest(pointer.manifest) for pointer in pointers if pointer]
    manifests = dict(zip(wanted, backend.get_many(wanted), strict=True))
    for pointer in pointers:
        entry = None
        with suppress(DataError):
            if pointer is not None:
                data = manifests[layout.manifest(pointer.manifest)]
                entry = Entry.of(Manifest.from_bytes(data or b""))
        yield entry


def _pointer(key: str, data: bytes) -> Pointer | None:
    with suppress(DataError):
        return Pointer.decode(key, data)
    return None


def _all_aliases(backend: Backend) -> dict[Name, dict[str, int]]:
    """Alias -> version of every name."""
    keys = [info.key for info in backend.list(f"{layout.ALIASES}/") if layout.alias_of(info.key)]
    found: dict[Name, dict[str, int]] = {}
    for key, data in zip(keys, backend.get_many(keys), strict=True):
        kind, name, text = layout.alias_of(key) or ("", "", "")
        with suppress(DataError):
            if data is not None:
                found.setdefault((kind, name), {})[text] = decode_alias(key, data).version
    return found


def _decode(data: bytes | None) -> _Record | None:
    return None if data is None else _Record.of(_json(data))


def _json(data: bytes) -> Any:
    with suppress(ValueError):
        return json.loads(data)
    return None
