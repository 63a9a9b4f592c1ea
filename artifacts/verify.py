"""Finds damage and names it: which artifact, which file, and what rebuilds it."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.atomic import digest_into
from artifacts.errors import DataError, UsageError
from artifacts.listing import Entry, contradictions
from artifacts.manifest import ADOPTED, Manifest
from artifacts.names import Pointer
from artifacts.paths import is_sha256
from artifacts.pins import pin_of
from artifacts.redact import REDACTED
from artifacts.ref import ArtifactRef

if TYPE_CHECKING:
    from artifacts.backends.base import Backend
    from artifacts.store import Store

MISSING, WRONG_BYTES = "is missing", "does not have its sha256"


@dataclass(frozen=True)
class Problem:
    """One damaged file: the artifact's ref (or the object's key), the file, what is wrong, what to do."""

    ref: str
    file: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.ref}: {self.file} {self.what}" if self.file else f"{self.ref}: {self.what}"


def damaged(store: Store, pointer: Pointer, file: str, what: str) -> DataError:
    """The error for a damaged artifact, with the command that rebuilds it."""
    name, stage = _known_as(store, pointer)
    return DataError(f"{name} is damaged: {file} {what}", _rebuild(store, pointer, name, stage))


def _rebuild(store: Store, pointer: Pointer, name: str, stage: str) -> str:
    """The command that made it, with --force; its general form where the store cannot know it."""
    if stage == ADOPTED:
        known = name.partition("@")[0] if "/" in name else "KIND/NAME"
        return f"adopt it again: nanochat art adopt {known} FOLDER --force"
    data = store.backend.get(layout.manifest(pointer.manifest)) or b""
    try:  # never a command out of damaged bytes
        intact = Manifest.sha256_of(data) == pointer.manifest
        command = Manifest.from_bytes(data).provenance.command if intact else ""
    except DataError:
        command = ""
    evaluation = command.startswith("nanochat eval ")
    if not (evaluation or command.startswith("nanochat run ")) or "..." in command or REDACTED in command:
        command = "nanochat eval REF" if evaluation else "nanochat run PRESET"
    return f"rebuild it: {command} --force" + ("" if evaluation else f" {stage}")


def _known_as(store: Store, pointer: Pointer) -> tuple[str, str]:
    """How people know an artifact: the newest ref of this manifest, else its stage and digest; its stage."""
    for ref in reversed(store.names.version_keys()):
        try:
            version = store.names.version(ref)
        except DataError:
            continue
        if version is not None and version.pointer.manifest == pointer.manifest:
            return str(ref), version.pointer.stage
    return f"{pointer.stage} sha256:{pointer.digest[:12]}", pointer.stage


def file_problems(store: Store, manifest: Manifest, *, deep: bool) -> Iterator[Problem]:
    """The files of an artifact that are missing, of a wrong size, or (``deep``) of other bytes."""
    for path, entry in manifest.all_files().items():
        info = store.backend.info(layout.blob(entry.sha256))
        if info is None:
            what = MISSING
        elif info.size != entry.size:
            what = f"has {info.size} bytes, not {entry.size}"
        elif deep and blob_digest(store.backend, entry.sha256) != entry.sha256:
            what = WRONG_BYTES
        else:
            continue
        yield _problem(store, manifest, path, what)


def _problem(store: Store, manifest: Manifest, path: str, what: str) -> Problem:
    pointer = Pointer.to(manifest)
    name, stage = _known_as(store, pointer)
    return Problem(name, path, what, _rebuild(store, pointer, name, stage))


def blob_digest(backend: Backend, sha256: str) -> str | None:
    """The sha256 that a blob's bytes really have, or None if it is missing."""
    key = layout.blob(sha256)
    if (path := backend.local_path(key)) is not None:
        return digest_into(path) if path.is_file() else None
    with tempfile.TemporaryDirectory() as folder:
        return backend.download(key, Path(folder, "blob"))


def verify(store: Store, ref: str | ArtifactRef | None, *, deep: bool) -> list[Problem]:
    """The problems of one artifact, or with None those of every object in the store."""
    if ref is None:
        found = {(problem.ref, problem.file or problem.what): problem for problem in _everything(store, deep)}
        return list(found.values())
    try:
        _, manifest = store.resolve(ref)
    except DataError as error:
        return [Problem(str(ref), "", error.message, error.hint)]
    return list(file_problems(store, manifest, deep=deep))


def _everything(store: Store, deep: bool) -> Iterator[Problem]:
    manifests, unreachable = _reachable(store)
    yield from unreachable
    yield from _alias_problems(store)
    yield from _pin_problems(store)
    yield from _manifest_problems(store)
    for manifest in manifests:
        yield from file_problems(store, manifest, deep=False)
    if deep:
        yield from _blob_problems(store, manifests)


def _reachable(store: Store) -> tuple[list[Manifest], list[Problem]]:
    """The artifacts behind every version and fingerprint, and the ones that cannot be reached."""
    manifests: dict[str, Manifest] = {}
    problems: list[Problem] = []
    listed: dict[tuple[str, str], dict[int, Entry]] = {}
    for ref in store.names.version_keys():
        try:
            manifest = store.manifest(store.names.find(ref).pointer)
            manifests[manifest.hex] = manifest
            listed.setdefault((ref.kind, ref.name), {})[ref.version or 0] = Entry.of(manifest)
        except DataError as error:
            problems.append(Problem(str(ref), "", error.message, error.hint))
    for info in store.backend.list(f"{layout.FINGERPRINTS}/"):
        try:
            stage, sha256 = info.key.removesuffix(".json").split("/")[1:]
            if (answer := store.lookup(stage, sha256)) is not None:
                manifests[answer.hex] = answer
        except (ValueError, UsageError):
            problems.append(Problem(info.key, "", "is no fingerprint"))
        except DataError as error:
            problems.append(Problem(info.key, "", error.message, error.hint))
    for key, what in contradictions(store.backend, listed):
        problems.append(Problem(key, "", what, "mend what lists show: nanochat art gc"))
    return list(manifests.values()), problems


def _alias_problems(store: Store) -> Iterator[Problem]:
    for info in store.backend.list(f"{layout.ALIASES}/"):
        try:
            kind, name, text = info.key.removesuffix(".json").split("/")[1:]
            ref = ArtifactRef(kind, name, alias=text)
            store.resolve(ref)
        except (ValueError, UsageError):
            yield Problem(info.key, "", "is no alias")
        except DataError as error:
            yield Problem(str(ref), "", error.message, error.hint)


def _pin_problems(store: Store) -> Iterator[Problem]:
    for info in store.backend.list(f"{layout.PINS}/"):
        if (found := layout.version_of(info.key)) is None:
            yield Problem(info.key, "", "is no pin")
            continue
        ref = ArtifactRef(found[0], found[1], version=found[2])
        try:
            pin, version = pin_of(store, ref), store.names.version(ref)
        except DataError as error:
            yield Problem(f"the pin of {ref}", "", error.message, error.hint)
            continue
        if pin is not None and (version is None or pin.digest != version.pointer.digest):
            what = "is gone" if version is None else "is another one now"
            yield Problem(f"the pin of {ref}", "", f"that artifact {what}", f"nanochat art unpin {ref}")


def _manifest_problems(store: Store) -> Iterator[Problem]:
    for info in store.backend.list(f"{layout.MANIFESTS}/"):
        sha256 = info.key.rpartition("/")[2].removesuffix(".json")
        data = store.backend.get(info.key)
        if not is_sha256(sha256) or info.key != layout.manifest(sha256):
            yield Problem(info.key, "", "is no manifest")
        elif data is not None and Manifest.sha256_of(data) != sha256:
            yield Problem(info.key, "", WRONG_BYTES)


def _blob_problems(store: Store, manifests: list[Manifest]) -> Iterator[Problem]:
    owners: dict[str, list[tuple[Manifest, str]]] = defaultdict(list)
    for manifest in manifests:
        for path, entry in manifest.all_files().items():
            owners[entry.sha256].append((manifest, path))
    for info in store.backend.list("blobs/"):
        sha256 = info.key.rpartition("/")[2]
        if not is_sha256(sha256) or info.key != layout.blob(sha256):
            yield Problem(info.key, "", "is no blob")
        elif blob_digest(store.backend, sha256) not in (sha256, None):
            if sha256 not in owners:
                yield Problem(info.key, "", WRONG_BYTES)
            for manifest, path in owners.get(sha256, []):
                yield _problem(store, manifest, path, WRONG_BYTES)
