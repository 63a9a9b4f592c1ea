"""Versions and aliases: ``kind/name@vN`` never changes, an alias is the only thing that moves."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.backends.base import Backend
from artifacts.errors import DataError, ResourceError, UsageError
from artifacts.paths import is_sha256
from artifacts.ref import LATEST, ArtifactRef

if TYPE_CHECKING:
    from artifacts.manifest import Manifest, Parent


class UnknownRef(ResourceError):
    """Nothing has this name; whoever could not be asked raises a plain ResourceError."""


@dataclass(frozen=True)
class Pointer:
    """A small record that points to a manifest: behind a fingerprint, and behind a version."""

    stage: str
    manifest: str
    digest: str

    @classmethod
    def to(cls, manifest: Manifest) -> Pointer:
        """The pointer to a manifest."""
        return cls(manifest.stage, manifest.hex, manifest.digest)

    @classmethod
    def to_parent(cls, parent: Parent) -> Pointer:
        """The pointer to a parent; its stage is unknown, the role stands for it in messages."""
        return cls(parent.role, parent.manifest, parent.digest)

    @classmethod
    def decode(cls, key: str, data: bytes) -> Pointer:
        """Parse the record stored under ``key``; DataError if it is damaged."""
        record = layout.decode(key, data)
        stage, manifest, digest = record.get("stage"), record.get("manifest"), record.get("digest")
        if not (
            isinstance(stage, str) and isinstance(manifest, str) and isinstance(digest, str)
            and stage and is_sha256(manifest) and is_sha256(digest)
        ):  # fmt: skip
            raise DataError(f"{key} is damaged: it points nowhere", "rebuild what it names with --force")
        return cls(stage, manifest, digest)

    def encode(self) -> bytes:
        """The bytes to store."""
        return layout.encode(
            {"schema": 1, "stage": self.stage, "manifest": self.manifest, "digest": self.digest}
        )


@dataclass(frozen=True)
class Version:
    """A named version and what it points to."""

    ref: ArtifactRef
    pointer: Pointer


@dataclass(frozen=True)
class Alias:
    """Where an alias points, and every version it ever pointed to: (version, digest, time), newest last."""

    version: int
    digest: str
    history: tuple[dict[str, Any], ...]


class Names:
    """The names and aliases of a store."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def version_keys(self, kind: str | None = None, name: str | None = None) -> list[ArtifactRef]:
        """Refs of all versions, of one kind, or of one name, in order."""
        infos = self._backend.list(layout.under(layout.NAMES, kind, name))
        refs = (ArtifactRef(*parsed) for info in infos if (parsed := layout.version_of(info.key)))
        return sorted((ref for ref in refs if name in (None, ref.name)), key=_order)

    def versions(self, kind: str | None = None, name: str | None = None) -> Iterator[Version]:
        """All versions in order; raises DataError at a damaged one."""
        for ref in self.version_keys(kind, name):
            if (version := self.version(ref)) is not None:
                yield version

    def version(self, ref: ArtifactRef) -> Version | None:
        """One version, or None if it does not exist."""
        assert ref.version is not None
        key = layout.version(ref.kind, ref.name, ref.version)
        data = self._backend.get(key)
        return None if data is None else Version(ref, Pointer.decode(key, data))

    def publish(self, kind: str, name: str, pointer: Pointer) -> tuple[ArtifactRef, bool]:
        """The version of ``kind/name`` with this digest, made if there is none: (ref, is it new)."""
        existing = self.version_keys(kind, name)
        for ref in reversed(existing):
            if self._means(ref, pointer):
                return ref, False
        number = max((ref.version or 0 for ref in existing), default=0)
        while True:  # what was created since that list, or was missing in it, is met here
            number += 1
            ref = ArtifactRef(kind, name, version=number)
            if self._backend.put_new(layout.version(kind, name, number), pointer.encode()):
                return ref, True
            if self._means(ref, pointer):
                return ref, False

    def _means(self, ref: ArtifactRef, pointer: Pointer) -> bool:
        key = layout.version(ref.kind, ref.name, ref.version or 0)
        data = self._backend.get(key)
        return data is not None and _has_digest(key, data, pointer.digest)

    def alias(self, kind: str, name: str, text: str) -> Alias | None:
        """One alias, or None; raises DataError if its record is damaged."""
        key = layout.alias(kind, name, text)
        data = self._backend.get(key)
        return None if data is None else decode_alias(key, data)

    def aliases(self, kind: str, name: str) -> dict[str, Alias]:
        """Every alias of a name."""
        keys = [info.key for info in self._backend.list(layout.aliases(kind, name))]
        texts = sorted(key.rpartition("/")[2].removesuffix(".json") for key in keys)
        found = {text: self.alias(kind, name, text) for text in texts}
        return {text: alias for text, alias in found.items() if alias is not None}

    def move(self, ref: ArtifactRef, text: str, digest: str) -> None:
        """Point the alias ``text`` to ``ref``; nothing is written if it points there already."""
        assert ref.version is not None
        key = layout.alias(ref.kind, ref.name, text)
        while True:
            data = self._backend.get(key)
            history: tuple[dict[str, Any], ...] = ()
            if data is not None:
                try:
                    alias = decode_alias(key, data)
                except DataError:
                    pass  # a damaged alias is mended by moving it; its history is lost
                else:
                    if (alias.version, alias.digest) == (ref.version, digest):
                        return
                    history = alias.history
            now = datetime.now(UTC).isoformat(timespec="seconds")
            entry = {"version": ref.version, "digest": digest, "time": now}
            if self._backend.compare_and_swap(
                key, data, layout.encode({"schema": 1, "history": [*history, entry]})
            ):
                return

    def awaits_latest(self, ref: ArtifactRef) -> bool:
        """True for the newest version if ``latest`` never pointed to it: its publisher was killed."""
        if ref != self.version_keys(ref.kind, ref.name)[-1]:
            return False
        try:
            latest = self.alias(ref.kind, ref.name, LATEST)
        except DataError:
            return True
        return latest is None or all(entry["version"] != ref.version for entry in latest.history)

    def find(self, ref: str | ArtifactRef) -> Version:
        """What a ref means now. Raises UnknownRef, with the nearest that there is, if nothing."""
        ref = ArtifactRef.parse(ref) if isinstance(ref, str) else ref
        if ref.version is not None:
            found = self.version(ref)
        elif ref.digest is not None:
            found = self._by_digest(ref, ref.digest)
        else:
            found = self._by_alias(ref)
        if found is None:
            raise UnknownRef(f"no artifact {ref}", self._suggestion(ref))
        return found

    def _by_alias(self, ref: ArtifactRef) -> Version | None:
        alias = self.alias(ref.kind, ref.name, ref.alias or LATEST)
        if alias is None:
            return None
        found = self.version(ArtifactRef(ref.kind, ref.name, version=alias.version))
        if found is None or found.pointer.digest != alias.digest:
            raise DataError(f"alias {ref} is damaged: v{alias.version} is another artifact", "set it again")
        return found

    def _by_digest(self, ref: ArtifactRef, prefix: str) -> Version | None:
        found = [item for item in self.versions(ref.kind, ref.name) if item.pointer.digest.startswith(prefix)]
        if len(found) > 1:
            raise UsageError(f"{ref} means more than one artifact", "give more digits")
        return found[0] if found else None

    def _suggestion(self, ref: ArtifactRef) -> str:
        if versions := self.version_keys(ref.kind, ref.name):
            return f"the newest version is {versions[-1]}"
        known = sorted({f"{item.kind}/{item.name}" for item in self.version_keys()})
        close = difflib.get_close_matches(f"{ref.kind}/{ref.name}", known, n=1)
        return f"did you mean {close[0]}?" if close else "nanochat art ls shows what there is"


def _order(ref: ArtifactRef) -> tuple[str, str, int]:
    return (ref.kind, ref.name, ref.version or 0)


def _has_digest(key: str, data: bytes, digest: str) -> bool:
    try:
        return Pointer.decode(key, data).digest == digest
    except DataError:
        return False  # a damaged version keeps its number and is reported by whoever resolves it


def decode_alias(key: str, data: bytes) -> Alias:
    """Parse the alias stored under ``key``; DataError if it is damaged."""
    history = layout.decode(key, data).get("history")
    if not isinstance(history, list) or not history:
        raise DataError(f"{key} is damaged: no history", "set the alias again")
    for entry in history:
        if not (isinstance(entry, dict) and isinstance(entry.get("version"), int) and entry.get("digest")):
            raise DataError(f"{key} is damaged: {str(entry)[:80]}", "set the alias again")
    return Alias(history[-1]["version"], history[-1]["digest"], tuple(history))
