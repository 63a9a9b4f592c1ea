"""Artifacts as one tar, to move them between stores: written with the whole lineage, read with suspicion.

``index.json`` comes first: the names of the artifacts and the size of every other member. Those follow in
order under the keys that they have in a store, so their names hold their sha256: the blobs, then the
manifests. Times, owners and modes are constant: equal content makes equal bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Annotated, BinaryIO, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from artifacts import layout
from artifacts.atomic import (
    CHUNK_BYTES,
    digest_into,
    disk_errors,
    make_directories,
    sync_directory,
    temporary_name,
)
from artifacts.errors import DataError, ResourceError, UsageError
from artifacts.gc import keep
from artifacts.manifest import Manifest, Sha256
from artifacts.names import Pointer
from artifacts.paths import is_sha256
from artifacts.ref import ArtifactRef
from artifacts.store import Store
from artifacts.verify import MISSING, WRONG_BYTES, damaged

INDEX = "index.json"
MAX_MEMBERS = 50_000
MAX_RECORD_BYTES = 32 << 20  # the index, and all manifests together: these are held in memory
MAX_RATIO, SMALL_BYTES = 200, 100 << 20  # more bytes out than RATIO x the file is a bomb, if not SMALL
_ENDINGS = (".tar", ".tar.gz", ".tgz")
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link", tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a fifo", tarfile.DIRTYPE: "a folder",
}  # fmt: skip


def _version_ref(text: str) -> str:
    if ArtifactRef.parse(text).version is None:
        raise ValueError("not kind/name@vN")
    return text


_Stream = BinaryIO | gzip.GzipFile
_VersionRef = Annotated[str, AfterValidator(_version_ref)]


class Entry(BaseModel):
    """One artifact of an archive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ref: _VersionRef | None = Field(description="its name where it was exported")
    manifest: Sha256
    answers: bool = Field(description="its fingerprint pointed to it")


class Index(BaseModel):
    """What an archive holds; ``members``: the size in bytes of every member but the index."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_number: Literal[1] = Field(alias="schema")
    root: _VersionRef
    artifacts: tuple[Entry, ...]
    members: dict[str, Annotated[int, Field(ge=0)]]

    @property
    def total_bytes(self) -> int:
        """Size of everything but the index, unpacked."""
        return sum(self.members.values())

    @property
    def names(self) -> list[tuple[ArtifactRef, str]]:
        """(name, key of the manifest) of each artifact that has one, older versions first."""
        return sorted(
            (ArtifactRef.parse(entry.ref), layout.manifest(entry.manifest))
            for entry in self.artifacts
            if entry.ref
        )


@dataclass(frozen=True)
class Imported:
    """The name that an artifact had, and the one that it has now."""

    was: ArtifactRef
    ref: ArtifactRef


def export(store: Store, ref: str | ArtifactRef, path: Path, with_lineage: bool = True) -> Index:
    """Write an artifact, and all that it was made from, to ``path`` (.tar or .tar.gz): whole or not at all.

    Every file's sha256 is checked on the way; raises DataError that names a damaged one.
    """
    if not path.name.endswith(_ENDINGS):
        raise UsageError(f"{path.name} is no name for an archive", "end it with .tar or .tar.gz")
    root, manifest = store.resolve(ref)
    family = _family(store, root, manifest) if with_lineage else {manifest.hex: (str(root), manifest)}
    entries = [
        Entry(ref=name, manifest=sha256, answers=_answers(store, manifest))
        for sha256, (name, manifest) in family.items()
    ]
    manifests = [manifest for _, manifest in family.values()]
    index = Index(
        schema=1, root=str(root), artifacts=tuple(sorted(entries, key=lambda entry: entry.manifest)),
        members=_sizes(path, manifests),
    )  # fmt: skip
    _check_limits(path, index)
    temporary = path.absolute().parent / temporary_name()
    make_directories(temporary.parent)
    try:
        with disk_errors(path):
            with temporary.open("xb") as file:
                with _packed(path, file) as stream:
                    _write(store, stream, index, manifests, temporary.parent)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_directory(temporary.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return index


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
                held += [chunk] if _is_manifest(key) else []
            if digest.hexdigest() != _sha256_in(key):
                _refuse(path, f"{key} {WRONG_BYTES}")
            if _is_manifest(key):
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
        for manifest in self.manifests.values():
            for parent in manifest.parents:
                held = self.manifests.get(layout.manifest(parent.manifest))
                try:
                    digest = held.digest if held else store.manifest(Pointer.to_parent(parent)).digest
                except DataError:
                    digest = ""
                if digest != parent.digest:
                    what = f"{manifest.kind} was made from {parent.ref[:80]!r}, which is not in it"
                    _refuse(self.path, what, "export it with its lineage")

    def _is_named(self, store: Store) -> bool:
        """True if a name here protects each artifact from gc already."""
        return all(
            key in {layout.manifest(item.pointer.manifest) for item in store.list(ref.kind, ref.name)}
            for ref, key in self.index.names
        )

    def _is_there(self, store: Store, key: str) -> bool:
        if _is_manifest(key):
            return store.backend.get(key) == self.manifests[key].to_bytes()
        info, path = store.backend.info(key), store.backend.local_path(key)
        if info is None or info.size != self.index.members[key]:
            return False
        return path is None or digest_into(path) == _sha256_in(key)

    def _put_members(self, store: Store, missing: set[str]) -> None:
        """Store the blobs, then the manifests: that is their order."""
        if not missing:
            return
        tar = _Tar(self.path, self.file)
        tar.index()
        for key, chunks in tar.members(self.index):
            if key not in missing:
                continue
            if _is_manifest(key):
                store.backend.put(key, self.manifests[key].to_bytes())
            else:
                _upload(store, key, chunks)

    def _put_names(self, store: Store) -> list[Imported]:
        made = [Imported(ref, store.name(self.manifests[key], ref.name)) for ref, key in self.index.names]
        return sorted(made, key=lambda item: str(item.was) != self.index.root)


def _family(store: Store, root: ArtifactRef, manifest: Manifest) -> dict[str, tuple[str | None, Manifest]]:
    """An artifact and all that it was made from: sha256 of the manifest -> (a name, or None; manifest)."""
    found: dict[str, tuple[str | None, Manifest]] = {manifest.hex: (str(root), manifest)}
    pending = [manifest]
    while pending:
        for parent in pending.pop().parents:
            if parent.manifest not in found:
                made = store.manifest(Pointer.to_parent(parent))
                found[made.hex] = (_name(store, made, parent.ref), made)
                pending.append(made)
    return found


def _name(store: Store, manifest: Manifest, known_as: str) -> str | None:
    """``known_as`` if that is a name of the artifact here, else any; None if it has none."""
    versions = store.list(manifest.kind)
    names = [str(version.ref) for version in versions if version.pointer.digest == manifest.digest]
    return known_as if known_as in names else next(iter(names), None)


def _answers(store: Store, manifest: Manifest) -> bool:
    key = layout.fingerprint(manifest.stage, manifest.fingerprint)
    return store.backend.get(key) == Pointer.to(manifest).encode()


def _sizes(path: Path, manifests: list[Manifest]) -> dict[str, int]:
    """Key -> size of the blobs and manifests of artifacts, in order."""
    sizes: dict[str, int] = {}
    for manifest in manifests:
        _check_paths(path, manifest)
        sizes[layout.manifest(manifest.hex)] = len(manifest.to_bytes())
        for entry in manifest.all_files().values():
            if sizes.setdefault(layout.blob(entry.sha256), entry.size) != entry.size:
                _refuse(path, f"{entry.path[:80]!r} has two sizes")
    return dict(sorted(sizes.items()))


def _packed(path: Path, file: BinaryIO) -> AbstractContextManager[_Stream]:
    if path.name.endswith(".tar"):
        return nullcontext(file)
    return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)


def _write(store: Store, stream: _Stream, index: Index, manifests: list[Manifest], scratch: Path) -> None:
    records = {layout.manifest(manifest.hex): manifest.to_bytes() for manifest in manifests}
    owners = {
        layout.blob(entry.sha256): (manifest, name)
        for manifest in manifests
        for name, entry in manifest.all_files().items()
    }
    data = layout.encode(index.model_dump(mode="json", by_alias=True))
    _write_member(stream, INDEX, len(data), BytesIO(data))
    for key, size in index.members.items():
        if key in records:
            _write_member(stream, key, size, BytesIO(records[key]))
            continue
        manifest, name = owners[key]
        with _blob_file(store, key, scratch) as source:
            if not source.is_file():
                raise damaged(store, Pointer.to(manifest), name, MISSING)
            with source.open("rb") as file:
                if _write_member(stream, key, size, file) != _sha256_in(key):
                    raise damaged(store, Pointer.to(manifest), name, WRONG_BYTES)
    stream.write(bytes(2 * tarfile.BLOCKSIZE))


def _write_member(stream: _Stream, name: str, size: int, source: IO[bytes]) -> str:
    """Append a file under a constant time, owner and mode; returns the sha256 of what was written."""
    header, digest = tarfile.TarInfo(name), hashlib.sha256()
    header.size = size
    stream.write(header.tobuf(tarfile.GNU_FORMAT))
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        stream.write(chunk)
    stream.write(bytes(-size % tarfile.BLOCKSIZE))
    return digest.hexdigest()


@contextmanager
def _blob_file(store: Store, key: str, scratch: Path) -> Iterator[Path]:
    """A file with the blob's bytes, absent if there is none; copied into ``scratch`` if it lies elsewhere."""
    if (path := store.backend.local_path(key)) is not None:
        yield path
        return
    temporary = scratch / temporary_name()
    try:
        store.backend.download(key, temporary)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _upload(store: Store, key: str, chunks: Iterator[bytes]) -> None:
    """Store a blob by way of a file: beside the store if that is a folder, so that it fits there."""
    marker = store.backend.local_path(layout.STORE)
    temporary = (marker.parent if marker else Path(tempfile.gettempdir())) / temporary_name()
    try:
        with disk_errors(temporary), temporary.open("xb") as file:
            file.writelines(chunks)
        store.backend.upload(key, temporary, sha256=_sha256_in(key))
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
        self._stream: _Stream = gzip.GzipFile(fileobj=file, mode="rb") if is_gzip else file

    def index(self) -> Index:
        """The first member. Nothing behind it is read before its promises are found acceptable."""
        header = self._next()
        if header is None or header.name != INDEX:
            self._refuse(f"its first member is not {INDEX}")
        if not 0 <= header.size <= MAX_RECORD_BYTES:
            self._refuse(f"{INDEX} has {header.size} bytes, at most {MAX_RECORD_BYTES} are allowed")
        index = _decode_index(self._path, b"".join(self._chunks(header.size)))
        _check_limits(self._path, index)
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
        _refuse(self._path, what, hint)


def _decode_index(path: Path, data: bytes) -> Index:
    try:
        return Index.model_validate_json(data)
    except UsageError as error:
        _refuse(path, f"{INDEX}: {error.message}")
    except ValidationError as error:
        problems = error.errors()
        for problem in problems:
            if problem["loc"] == ("schema",) and problem["type"] != "missing":
                what = f"it has archive schema {problem['input']!r:.20}, this program knows 1"
                _refuse(path, what, "upgrade nanochat-pipeline")
        field = ".".join(map(str, problems[0]["loc"])) or "JSON"
        _refuse(path, f"{INDEX}: {field[:80]}: {problems[0]['msg']}")


def _decode_manifest(path: Path, data: bytes) -> Manifest:
    try:
        manifest = Manifest.from_bytes(data)
    except DataError as error:
        _refuse(path, error.message, error.hint)
    if manifest.to_bytes() != data:
        _refuse(path, "a manifest is not in its canonical form")
    return manifest


def _check_limits(path: Path, index: Index) -> None:
    """Few enough members, each under the key of a blob or a manifest, and manifests that fit in memory."""
    if len(index.members) > MAX_MEMBERS:
        _refuse(path, f"it lists {len(index.members)} files, at most {MAX_MEMBERS} are allowed")
    for key in index.members:
        sha256 = _sha256_in(key)
        if not is_sha256(sha256) or key not in (layout.blob(sha256), layout.manifest(sha256)):
            _refuse(path, f"its index lists {key[:80]!r}, which is no blob and no manifest")
    manifest_bytes = sum(size for key, size in index.members.items() if _is_manifest(key))
    if manifest_bytes > MAX_RECORD_BYTES:
        _refuse(path, f"its manifests have {manifest_bytes} bytes, at most {MAX_RECORD_BYTES} are allowed")


def _check_artifacts(path: Path, index: Index, manifests: dict[str, Manifest]) -> None:
    """The index lists exactly these artifacts and their files, under refs of their kinds."""
    if sorted(layout.manifest(entry.manifest) for entry in index.artifacts) != sorted(manifests):
        _refuse(path, "its index and its manifests differ")
    if index.root not in [entry.ref for entry in index.artifacts]:
        _refuse(path, f"its root {index.root} is not in it")
    for entry in index.artifacts:
        kind = manifests[layout.manifest(entry.manifest)].kind
        if entry.ref and ArtifactRef.parse(entry.ref).kind != kind:
            _refuse(path, f"{entry.ref} is of kind {kind}")
    if _sizes(path, list(manifests.values())) != index.members:
        _refuse(path, "its files are not those of its manifests")


def _check_paths(path: Path, manifest: Manifest) -> None:
    """No two files of an artifact are one where letters have no case, and none is another's folder."""
    names = [entry.path for entry in manifest.files] + [f"run/{entry.path}" for entry in manifest.run_files]
    seen: set[str] = set()
    for name in sorted(name.lower() for name in names):
        if name in seen or any(str(folder) in seen for folder in Path(name).parents):
            _refuse(path, f"{manifest.kind} has two files at {name[:80]!r}", "rename one")
        seen.add(name)


def _is_manifest(key: str) -> bool:
    return key.startswith(f"{layout.MANIFESTS}/")


def _sha256_in(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")


def _refuse(path: Path, what: str, hint: str = "") -> NoReturn:
    line = "".join(letter if letter.isprintable() else "?" for letter in what)
    raise DataError(f"{path.name}: {line}", hint or "use a file that nanochat art export made")
