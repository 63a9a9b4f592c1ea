"""Pins: versions that gc keeps because somebody said so, with a note that says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.errors import DataError, ResourceError
from artifacts.lease import GC, Lease
from artifacts.paths import is_sha256
from artifacts.redact import redact_text
from artifacts.ref import ArtifactRef

if TYPE_CHECKING:
    from artifacts.store import Store


@dataclass(frozen=True)
class Pin:
    """The pin of a version: the digest that it had, when it was set, and why."""

    ref: ArtifactRef
    digest: str
    time: str
    note: str = ""

    def encode(self) -> bytes:
        """The bytes to store."""
        return layout.encode({"schema": 1, "digest": self.digest, "time": self.time, "note": self.note})

    @classmethod
    def decode(cls, ref: ArtifactRef, data: bytes) -> Pin:
        """Parse the stored bytes; DataError if they are damaged."""
        record = layout.decode(_key(ref), data)
        values = [record.get(field) for field in ("digest", "time", "note")]
        digest, time, note = (value if isinstance(value, str) else None for value in values)
        if digest is None or time is None or note is None or not is_sha256(digest):
            raise DataError(f"{_key(ref)} is damaged", f"set it again: nanochat art pin {ref}")
        return cls(ref, digest, time, note)


def pin(store: Store, ref: str | ArtifactRef, note: str = "") -> Pin:
    """Pin what ``ref`` means now; a pin that is there gets the new note."""
    with Lease(store, GC):  # either gc sees the pin, or the artifact is gone and this says so
        version = store.names.find(ref)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = Pin(version.ref, version.pointer.digest, now, redact_text(note))
        store.backend.put(_key(version.ref), made.encode())
    return made


def unpin(store: Store, ref: str | ArtifactRef) -> ArtifactRef:
    """Remove the pin of a version. Raises ResourceError if it has none."""
    ref = ArtifactRef.parse(ref) if isinstance(ref, str) else ref
    if ref.version is None:  # a version is taken at its word, so that a dangling pin can be removed
        ref = store.names.find(ref).ref
    if not store.backend.delete(_key(ref)):
        raise ResourceError(f"{ref} is not pinned", f"nanochat art show {ref} says what keeps it")
    return ref


def pin_of(store: Store, ref: ArtifactRef) -> Pin | None:
    """The pin of a version, or None."""
    data = store.backend.get(_key(ref))
    return None if data is None else Pin.decode(ref, data)


def pins(store: Store) -> Iterator[Pin]:
    """Every pin; raises DataError at a damaged one."""
    for info in store.backend.list(f"{layout.PINS}/"):
        found = layout.version_of(info.key)
        if found and (one := pin_of(store, ArtifactRef(found[0], found[1], version=found[2]))):
            yield one


def _key(ref: ArtifactRef) -> str:
    return layout.pin(ref.kind, ref.name, ref.version or 0)
