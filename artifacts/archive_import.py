"""An archive is read with suspicion: every byte of it is checked before anything is stored."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from pydantic import ValidationError

from artifacts import layout
from artifacts.archive import (
    INDEX,
    MAX_RATIO,
    MAX_RECORD_BYTES,
    SMALL_BYTES,
    Index,
    Stream,
    check_limits,
    is_manifest,
    refuse,
    sha256_in,
    sizes,
)
from artifacts.atomic import CHUNK_BYTES, digest_into, disk_errors, temporary_name
from artifacts.errors import DataError, ResourceError, UsageError
from artifacts.gc import keep
from artifacts.manifest import Manifest, Parent
from artifacts.names import Pointer
from artifacts.ref import ArtifactRef
from artifacts.store import Store
from artifacts.verify import WRONG_BYTES

_KINDS = {
    tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link", tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a fifo", tarfile.DIRTYPE: "a folder",
}  # fmt: skip


@dataclass(frozen=True)
class Imported:
    """The name that an artifact had, and the one that it has now."""

    was: ArtifactRef
    ref: ArtifactRef


def import_(store: Store, path: Path) -> list[Imported]:
    """Store the artifacts of an archive under their names; the root is first in the list.

    Everything is checked before anything is stored. Raises DataError for whatever ``export`` would not
    have written. What is checked is that the bytes are whole, not who made them: a later run that finds
    its fingerprint answered by an imported artifact takes that.
    """
    with checked(path) as archive:
        return archive.put_into(store)


@contextmanager
def checked(path: Path) -> Iterator[Archive]:
    """Open an archive and check every byte of it; writes nothing, and memory stays flat."""
    if not path.is_file():
        raise ResourceError(f"no file {path}", "name an archive that nanochat art export made")
    with disk_errors(path), path.open("rb") as file:
        tar = _Tar(path, file)
        index = tar.index()
        manifests: dict[str, Manifest] = {}
        for key, chunks in tar.members(index):
            digest, held = hashlib.sha256(), []
            for chunk in chunks:
                digest.update(chunk)
                held += [chunk] if is_manifest(key) else []
            if digest.hexdigest() != sha256_in(key):
                refuse(path, f"{key} {WRONG_BYTES}")
            if is_manifest(key):
                manifests[key] = _decode_manifest(path, b"".join(held))
        _check_artifacts(path, index, manifests)
        yield Archive(path, file, index, manifests)


@dataclass(frozen=True)
class Archive:
    """An open archive in which everything is as it should be; ``manifests`` by key."""

    path: Path
    file: BinaryIO
    index: Index
    manifests: dict[str, Manifest]

    def put_into(self, store: Store) -> list[Imported]:
        """See ``import_``. May be repeated after a crash at any moment."""
        self._check_parents(store)
        there = {key for key in self.index.members if self._is_there(store, key)}
        kept = there if self._is_named(store) else keep(store, sorted(there))
        self._put_members(store, self.index.members.keys() - kept)
        for entry in self.index.artifacts:
            manifest = self.manifests[layout.manifest(entry.manifest)]
            key = layout.fingerprint(manifest.stage, manifest.fingerprint)
            if entry.answers and store.backend.get(key) is None:
                store.backend.put_new(key, Pointer.to(manifest).encode())
        return self._put_names(store)

    def _check_parents(self, store: Store) -> None:
        """Each parent is in the archive, or in the store, where gc spares it from now on."""
        outside = {}
        for manifest in self.manifests.values():
            for parent in manifest.parents:
                key = layout.manifest(parent.manifest)
                held = self.manifests.get(key)
                try:
                    digest = held.digest if held else store.manifest(Pointer.to_parent(parent)).digest
                except DataError:
                    digest = ""
                if digest != parent.digest:
                    self._refuse_parent(manifest, parent)
                if held is None:
                    outside[key] = (manifest, parent)
        keep(store, list(outside))
        for key, made in outside.items():
            if store.backend.info(key) is None:
                self._refuse_parent(*made)

    def _refuse_parent(self, manifest: Manifest, parent: Parent) -> NoReturn:
        what = f"{manifest.kind} was made from {parent.ref[:80]!r}, which is not in it"
        refuse(self.path, what, "export it with its lineage")

    def _is_named(self, store: Store) -> bool:
        """True if a name here protects each artifact from gc already."""
        return all(
            key in {layout.manifest(item.pointer.manifest) for item in store.list(ref.kind, ref.name)}
            for ref, key in self.index.names
        )

    def _is_there(self, store: Store, key: str) -> bool:
        if is_manifest(key):
            return store.backend.get(key) == self.manifests[key].to_bytes()
        info, path = store.backend.info(key), store.backend.local_path(key)
        if info is None or info.size != self.index.members[key]:
            return False
        return path is None or digest_into(path) == sha256_in(key)

    def _put_members(self, store: Store, missing: set[str]) -> None:
        """Store the blobs, then the manifests: that is their order."""
        if not missing:
            return
        tar = _Tar(self.path, self.file)
        tar.index()
        for key, chunks in tar.members(self.index):
            if key not in missing:
                continue
            if is_manifest(key):
                store.backend.put(key, self.manifests[key].to_bytes())
            else:
                _upload(store, key, chunks)

    def _put_names(self, store: Store) -> list[Imported]:
        made = [Imported(ref, store.name(self.manifests[key], ref.name)) for ref, key in self.index.names]
        return sorted(made, key=lambda item: str(item.was) != self.index.root)


def _upload(store: Store, key: str, chunks: Iterator[bytes]) -> None:
    """Store a blob by way of a file: beside the store if that is a folder, so that it fits there."""
    marker = store.backend.local_path(layout.STORE)
    temporary = (marker.parent if marker else Path(tempfile.gettempdir())) / temporary_name()
    try:
        with disk_errors(temporary), temporary.open("xb") as file:
            file.writelines(chunks)
        store.backend.upload(key, temporary, sha256=sha256_in(key))
    finally:
        temporary.unlink(missing_ok=True)


class _Tar:
    """One pass over an untrusted tar, block by block: plain files only, in the order of the index."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file_bytes = os.fstat(file.fileno()).st_size
        file.seek(0)
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._stream: Stream = gzip.GzipFile(fileobj=file, mode="rb") if is_gzip else file

    def index(self) -> Index:
        """The first member. Nothing behind it is read before its promises are found acceptable."""
        header = self._next()
        if header is None or header.name != INDEX:
            self._refuse(f"its first member is not {INDEX}")
        if not 0 <= header.size <= MAX_RECORD_BYTES:
            self._refuse(f"{INDEX} has {header.size} bytes, at most {MAX_RECORD_BYTES} are allowed")
        index = _decode_index(self._path, b"".join(self._chunks(header.size)))
        check_limits(self._path, index)
        if index.total_bytes > max(SMALL_BYTES, MAX_RATIO * self._file_bytes):
            what = f"it unpacks to {index.total_bytes} bytes, over {MAX_RATIO} times its size"
            self._refuse(what, "export it as .tar if it is yours")
        return index

    def members(self, index: Index) -> Iterator[tuple[str, Iterator[bytes]]]:
        """(key, bytes in pieces) of what follows: exactly what the index lists, each with its size."""
        for key, size in sorted(index.members.items()):
            header = self._next()
            if header is None:
                self._refuse(f"it lacks {key}")
            if header.name != key:
                self._refuse(f"it holds {header.name[:80]!r} where its index has {key}")
            if header.size != size:
                self._refuse(f"{key} has {header.size} bytes, not {size}")
            chunks = self._chunks(size)
            yield key, chunks
            for _ in chunks:
                pass  # what the reader left
        if (header := self._next()) is not None:
            self._refuse(f"it holds {header.name[:80]!r}, which is not in its index")

    def _next(self) -> tarfile.TarInfo | None:
        """The next header, None at the end. Extension headers are refused: no name here needs one."""
        block = self._read(tarfile.BLOCKSIZE)
        if block == bytes(tarfile.BLOCKSIZE):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        except tarfile.TarError:
            self._refuse("it is damaged, or no tar")
        if header.type != tarfile.REGTYPE:
            what = _KINDS.get(header.type, f"of type {header.type!r}")
            self._refuse(f"{header.name[:80]!r} is {what}")
        return header

    def _chunks(self, size: int) -> Iterator[bytes]:
        for start in range(0, size, CHUNK_BYTES):
            yield self._read(min(CHUNK_BYTES, size - start))
        self._read(-size % tarfile.BLOCKSIZE)

    def _read(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self._refuse("its compression is damaged")
        if len(data) != size:
            self._refuse("it ends too early")
        return data

    def _refuse(self, what: str, hint: str = "") -> NoReturn:
        refuse(self._path, what, hint)


def _decode_index(path: Path, data: bytes) -> Index:
    try:
        return Index.model_validate_json(data)
    except UsageError as error:
        refuse(path, f"{INDEX}: {error.message}")
    except ValidationError as error:
        problems = error.errors()
        for problem in problems:
            if problem["loc"] == ("schema",) and problem["type"] != "missing":
                what = f"it has archive schema {problem['input']!r:.20}, this program knows 1"
                refuse(path, what, "upgrade nanochat-pipeline")
        field = ".".join(map(str, problems[0]["loc"])) or "JSON"
        refuse(path, f"{INDEX}: {field[:80]}: {problems[0]['msg']}")


def _decode_manifest(path: Path, data: bytes) -> Manifest:
    try:
        manifest = Manifest.from_bytes(data)
    except DataError as error:
        refuse(path, error.message, error.hint)
    if manifest.to_bytes() != data:
        refuse(path, "a manifest is not in its canonical form")
    return manifest


def _check_artifacts(path: Path, index: Index, manifests: dict[str, Manifest]) -> None:
    """The index lists exactly these artifacts and their files, under refs of their kinds."""
    if sorted(layout.manifest(entry.manifest) for entry in index.artifacts) != sorted(manifests):
        refuse(path, "its index and its manifests differ")
    if index.root not in [entry.ref for entry in index.artifacts]:
        refuse(path, f"its root {index.root} is not in it")
    for entry in index.artifacts:
        kind = manifests[layout.manifest(entry.manifest)].kind
        if entry.ref and ArtifactRef.parse(entry.ref).kind != kind:
            refuse(path, f"{entry.ref} is of kind {kind}")
    if sizes(path, list(manifests.values())) != index.members:
        refuse(path, "its files are not those of its manifests")
