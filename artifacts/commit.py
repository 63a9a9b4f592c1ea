"""Stores a finished artifact: blobs, manifest, the fingerprint's pointer (the commit point), version, alias.

Every step may be repeated, so a killed commit is finished by running it again, and of several
committers of one fingerprint all end with the artifact of the first.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from queue import LifoQueue
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.atomic import CHUNK_BYTES, changed_error, digest_into, disk_errors, file_state
from artifacts.errors import DataError
from artifacts.gc import keep
from artifacts.lease import GC, Lease
from artifacts.listing import Entry, relist
from artifacts.manifest import Draft, FileEntry, Manifest, draft_manifest
from artifacts.names import Pointer
from artifacts.paths import relative_path
from artifacts.ref import LATEST, ArtifactRef
from artifacts.verify import blob_digest, file_problems

if TYPE_CHECKING:
    from artifacts.store import Store

RUN_FOLDER = "run"
_AT_ONCE = 4  # files under way
_HELD = 2  # of them in memory, if each has no more than
_HELD_BYTES = 64 << 20


@dataclass(frozen=True)
class Published:
    """What a commit made: ``new_version`` is False if the name has this digest already.

    ``ref`` is None if no name was asked for. ``manifest`` is the one that answers the fingerprint.
    """

    ref: ArtifactRef | None
    manifest: Manifest
    new_version: bool


def commit(
    store: Store,
    draft: Draft,
    payload: Path,
    run: Path | None,
    *,
    name: str | None,
    replace_fingerprint: bool,
    lease: Lease | None,
    take: bool,
) -> Published:
    """See ``Store.commit``."""
    winner = None if replace_fingerprint else store.lookup(draft.stage, draft.fingerprint)
    if winner is None:
        manifest = _upload(store, draft, payload, run, mend=replace_fingerprint, take=take)
        winner = _claim(store, manifest, replace_fingerprint, lease)
    if name is None:
        return Published(None, winner, False)
    ref, is_new = _publish(store, winner, name)
    if is_new:
        store.names.move(ref, LATEST, winner.digest)
    elif not _is_latest(store, ref, winner.digest):
        ref, is_new = publish_latest(store, winner, name)
    relist(store.backend, ref.kind, ref.name, {ref.version or 0: Entry.of(winner) if is_new else None})
    return Published(ref, winner, is_new)


def publish_latest(store: Store, manifest: Manifest, name: str) -> tuple[ArtifactRef, bool]:
    """Find or make the version and point ``latest`` to it, while gc cannot expire it."""
    with Lease(store, GC):
        ref, is_new = _publish(store, manifest, name)
        store.names.move(ref, LATEST, manifest.digest)
    return ref, is_new


@dataclass(frozen=True)
class _Source:
    """A file that is to be stored, and its state when it was hashed."""

    path: Path
    entry: FileEntry
    hashed: os.stat_result

    @property
    def key(self) -> str:
        return layout.blob(self.entry.sha256)


def _upload(
    store: Store, draft: Draft, payload: Path, run: Path | None, *, mend: bool, take: bool
) -> Manifest:
    """Store every file, then the manifest; nothing points to them yet."""
    files, run_files = _files(payload), _files(run) if run else {}
    if not files:
        raise DataError(f"stage {draft.stage} made no file", "an artifact has at least one")
    if any(path.split("/")[0] == RUN_FOLDER for path in files):
        raise DataError(f"stage {draft.stage} made {RUN_FOLDER}/", "that folder is for logs and records")
    entries = _put_files(store, [*files.items(), *run_files.items()], mend=mend, take=take)
    _keep_parents(store, draft)
    manifest = draft_manifest(draft, entries[: len(files)], entries[len(files) :])
    _put_manifest(store, manifest)
    return manifest


def _files(folder: Path) -> dict[str, Path]:
    """Every file of a folder, sorted by path. Refuses links and names outside the grammar."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise DataError(f"{relative} is not a plain file", "an artifact holds files and folders only")
        if path.is_file():
            files[relative_path(relative)] = path
    return files


def _put_files(
    store: Store, files: list[tuple[str, Path]], *, mend: bool, take: bool
) -> tuple[FileEntry, ...]:
    """Hash the files and store those that are not there yet, a few at a time.

    ``mend``: also those that are there, but damaged. What goes elsewhere is read once, if memory can hold it.
    """
    memory = None if store.is_here else _Memory()

    def send(source: _Source) -> None:
        hashed = source.hashed if take else None
        store.backend.upload(source.key, source.path, sha256=source.entry.sha256, hashed=hashed)

    def put(item: tuple[str, Path]) -> tuple[_Source, bool]:
        path, state = item[1], item[1].stat()
        with memory.read(path, state) if memory else nullcontext() as data:
            sha256 = digest_into(path) if data is None else hashlib.sha256(data).hexdigest()
            source = _Source(path, FileEntry(path=item[0], size=state.st_size, sha256=sha256), state)
            is_there = _is_there(store, source.entry, mend)
            if data is not None and not is_there:
                store.backend.put(source.key, data)
            elif not is_there:
                send(source)
            return source, is_there

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        done = list(pool.map(put, files))
        found = [source for source, was_there in done if was_there]
        kept = keep(store, [source.key for source in found])
        for _ in pool.map(send, [source for source in found if source.key not in kept]):
            pass
    return tuple(source.entry for source, _ in done)


class _Memory:
    """Where a few files lie from when they are hashed until they are sent, so that they are read once."""

    def __init__(self) -> None:
        self._free: LifoQueue[memoryview] = LifoQueue()
        for _ in range(_HELD):
            self._free.put(memoryview(mmap(-1, _HELD_BYTES)))  # takes no more than what is written to it

    @contextmanager
    def read(self, path: Path, state: os.stat_result) -> Iterator[memoryview | None]:
        """The file's bytes; None if they are too many. DataError if it is not in that ``state``."""
        size = state.st_size
        if size > _HELD_BYTES:
            yield None
        elif size <= CHUNK_BYTES:  # does not wait for large ones
            yield _filled(memoryview(bytearray(size)), path, state)
        else:
            memory = self._free.get()
            try:
                yield _filled(memory[:size], path, state)
            finally:
                self._free.put(memory)


def _filled(memory: memoryview, path: Path, state: os.stat_result) -> memoryview:
    with disk_errors(path), path.open("rb") as file:
        size = file.readinto(memory)
        if size != len(memory) or file_state(os.fstat(file.fileno())) != file_state(state):
            raise changed_error(path)
    return memory


def _is_there(store: Store, entry: FileEntry, mend: bool) -> bool:
    info = store.backend.info(layout.blob(entry.sha256))
    if info is None or info.size != entry.size:
        return False
    # Where a blob is elsewhere, reading it costs what sending it does: only a rebuild looks that deep.
    look = mend or store.backend.local_path(info.key) is not None
    return not look or blob_digest(store.backend, entry.sha256) == entry.sha256


def _keep_parents(store: Store, draft: Draft) -> None:
    """Give what this was made from another grace period; DataError if gc removed any of it meanwhile."""
    parents = {layout.manifest(parent.manifest): parent for parent in draft.parents}
    kept = keep(store, list(parents))
    for key in parents:
        if key not in kept and store.backend.info(key) is None:
            raise DataError(
                f"{parents[key].ref} was removed while {draft.stage} was made from it",
                "run it again: what is missing is built first",
            )


def _put_manifest(store: Store, manifest: Manifest) -> None:
    key, data = layout.manifest(manifest.hex), manifest.to_bytes()
    if store.backend.put_new(key, data):
        return
    if store.backend.get(key) != data or not keep(store, [key]):
        store.backend.put(key, data)


def _claim(store: Store, manifest: Manifest, replace: bool, lease: Lease | None) -> Manifest:
    """Make the fingerprint's pointer, or obey the one that is there. Returns what answers now."""
    key = layout.fingerprint(manifest.stage, manifest.fingerprint)
    current: bytes | None = None
    while True:
        if replace:
            current = store.backend.get(key)
            winner = None if current is None else _intact(store, key, current)
        else:
            winner = store.lookup(manifest.stage, manifest.fingerprint)
        if winner is not None and (not replace or winner.digest == manifest.digest):
            return winner
        if lease is not None:
            lease.check()
        with Lease(store, GC) if current else nullcontext():  # gc may be about to delete what it replaces
            if store.backend.compare_and_swap(key, current, Pointer.to(manifest).encode()):
                return manifest


def _publish(store: Store, manifest: Manifest, name: str) -> tuple[ArtifactRef, bool]:
    """Find or make the version. One with this digest but a damaged manifest or run/ is mended."""
    pointer = Pointer.to(manifest)
    ref, is_new = store.names.publish(manifest.kind, name, pointer)
    key = layout.version(ref.kind, ref.name, ref.version or 0)
    current = store.backend.get(key)
    if current is None or current == pointer.encode():
        return ref, is_new
    if _intact(store, key, current) is None:
        store.backend.compare_and_swap(key, current, pointer.encode())
    return ref, is_new


def _is_latest(store: Store, ref: ArtifactRef, digest: str) -> bool:
    try:
        alias = store.names.alias(ref.kind, ref.name, LATEST)
    except DataError:
        return False
    return alias is not None and (alias.version, alias.digest) == (ref.version, digest)


def _intact(store: Store, key: str, data: bytes) -> Manifest | None:
    """The artifact behind a pointer, or None if anything of it is damaged; hashes all its files."""
    try:
        manifest = store.manifest(Pointer.decode(key, data))
    except DataError:
        return None
    return None if any(file_problems(store, manifest, deep=True)) else manifest
