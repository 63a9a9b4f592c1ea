"""An archive is written whole or not at all, with everything that its artifact was made from."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO

from artifacts import layout
from artifacts.archive import INDEX, Entry, Index, Stream, check_limits, sha256_in, sizes
from artifacts.atomic import CHUNK_BYTES, disk_errors, make_directories, sync_directory, temporary_name
from artifacts.errors import UsageError
from artifacts.listing import listing
from artifacts.manifest import Manifest
from artifacts.names import Pointer
from artifacts.ref import ArtifactRef
from artifacts.store import Store
from artifacts.verify import MISSING, WRONG_BYTES, damaged

_ENDINGS = (".tar", ".tar.gz", ".tgz")


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
        members=sizes(path, manifests),
    )  # fmt: skip
    check_limits(path, index)
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
    versions = listing(store.backend, manifest.kind)
    names = [str(version.ref) for version in versions if version.entry.digest == manifest.digest]
    return known_as if known_as in names else next(iter(names), None)


def _answers(store: Store, manifest: Manifest) -> bool:
    key = layout.fingerprint(manifest.stage, manifest.fingerprint)
    return store.backend.get(key) == Pointer.to(manifest).encode()


def _packed(path: Path, file: BinaryIO) -> AbstractContextManager[Stream]:
    if path.name.endswith(".tar"):
        return nullcontext(file)
    return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)


def _write(store: Store, stream: Stream, index: Index, manifests: list[Manifest], scratch: Path) -> None:
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
                if _write_member(stream, key, size, file) != sha256_in(key):
                    raise damaged(store, Pointer.to(manifest), name, WRONG_BYTES)
    stream.write(bytes(2 * tarfile.BLOCKSIZE))


def _write_member(stream: Stream, name: str, size: int, source: IO[bytes]) -> str:
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
