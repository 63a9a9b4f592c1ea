"""The store: commits finished artifacts, answers which one a fingerprint or a ref means.

Nothing becomes visible before it is whole. The order of a commit is blobs, manifest, the
fingerprint's pointer (the commit point), the version, the alias; each step may be repeated.
"""

from __future__ import annotations

import difflib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.atomic import digest_into, disk_errors, make_directories
from artifacts.backends import open_backend
from artifacts.backends.base import Backend
from artifacts.checkout import checkout
from artifacts.errors import DataError, ResourceError, UsageError
from artifacts.gc import GcReport, collect
from artifacts.manifest import Draft, FileEntry, Manifest, draft_manifest
from artifacts.names import Alias, Names, Pointer, Version
from artifacts.paths import home, relative_path
from artifacts.ref import LATEST, ArtifactRef, check_alias
from artifacts.verify import Problem, damaged, file_problems, verify

if TYPE_CHECKING:
    from artifacts.lease import Lease

SCHEMA = 1
RUN_FOLDER = "run"


@dataclass(frozen=True)
class Published:
    """What a commit made: ``new_version`` is False if the name has this digest already.

    ``ref`` is None if no name was asked for. ``manifest`` is the one that answers the fingerprint.
    """

    ref: ArtifactRef | None
    manifest: Manifest
    new_version: bool


class Store:
    """A store of immutable artifacts. Raises ResourceError if its storage fails, DataError at damage."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.names = Names(backend)

    @classmethod
    def open(cls, url: str = "", *, create: bool = True) -> Store:
        """Open the store at a URL or folder; "" is $NANOCHAT_HOME/store.

        A new one is started where there is none, if ``create``. Refuses the store of a newer
        program and a folder that holds other things.
        """
        backend = open_backend(url or str(home() / "store"))
        used = _is_used(backend)  # asked first: another process may be starting the store now
        record = backend.get(layout.STORE)
        if record is None:
            if not create:
                raise ResourceError(f"{backend.url} is not a store", "check --store, or start one with a run")
            if used:
                raise UsageError(f"{backend.url} holds other files and is no store", "choose an empty folder")
            backend.put_new(layout.STORE, layout.encode({"schema": SCHEMA}))
        elif (schema := layout.decode(layout.STORE, record).get("schema")) != SCHEMA:
            raise ResourceError(
                f"{backend.url} has store schema {schema}, this program knows {SCHEMA}",
                "upgrade nanochat-pipeline",
            )
        return cls(backend)

    def lookup(self, stage: str, fingerprint: str) -> Manifest | None:
        """The artifact that answers a fingerprint, or None if nothing was committed for it."""
        key = layout.fingerprint(stage, fingerprint)
        data = self.backend.get(key)
        if data is None:
            return None
        manifest = self.manifest(_pointer(key, data, stage))
        if (manifest.stage, manifest.fingerprint) != (stage, fingerprint):
            raise damaged(self, Pointer.to(manifest), key, "answers another fingerprint")
        return manifest

    def manifest(self, pointer: Pointer) -> Manifest:
        """Read and check a manifest; raises DataError if it is missing, damaged, or of another artifact."""
        key = layout.manifest(pointer.manifest)
        data = self.backend.get(key)
        if data is None:
            raise damaged(self, pointer, key, "is missing")
        try:
            manifest = Manifest.from_bytes(data)
        except DataError as error:
            raise damaged(self, pointer, key, f"is not valid ({error.message})") from error
        if manifest.to_bytes() != data or manifest.hex != pointer.manifest:
            raise damaged(self, pointer, key, "does not have its sha256")
        if manifest.digest != pointer.digest:
            raise damaged(self, pointer, key, "is not the one its pointer means")
        return manifest

    def check(self, manifest: Manifest) -> None:
        """For a hit: the stored manifest is intact, every file is there and has its size; else DataError."""
        self.manifest(Pointer.to(manifest))
        for problem in file_problems(self, manifest, deep=False):
            raise damaged(self, Pointer.to(manifest), problem.file, problem.what)

    def checkout(self, manifest: Manifest, view_root: Path) -> Path:
        """A read-only folder with the payload and ``run/``, each file's sha256 verified; else DataError."""
        return checkout(self, manifest, view_root)

    def commit(
        self,
        draft: Draft,
        payload: Path,
        run: Path | None = None,
        *,
        name: str | None = None,
        replace_fingerprint: bool = False,
        lease: Lease | None = None,
    ) -> Published:
        """Store a finished artifact and name it. May be repeated after a crash at any moment.

        If the fingerprint is answered already, that artifact wins and this one is dropped, unless
        ``replace_fingerprint`` (a forced rebuild): then an equal digest keeps the intact old artifact,
        and another one answers from now on. ``lease``: raises LeaseLost if it was taken over.
        """
        key = layout.fingerprint(draft.stage, draft.fingerprint)
        winner = None if replace_fingerprint else self.lookup(draft.stage, draft.fingerprint)
        if winner is None:
            files, run_files = _entries(payload, is_payload=True), _entries(run) if run else ()
            if not files:
                raise DataError(f"stage {draft.stage} made no file", "an artifact has at least one")
            manifest = draft_manifest(draft, files, run_files)
            self._upload(payload, files)
            if run:
                self._upload(run, run_files)
            self._put_manifest(manifest)
            winner = self._claim(key, manifest, replace_fingerprint, lease)
        if name is None:
            return Published(None, winner, False)
        ref, is_new = self._publish(winner, name)
        self.names.move(ref, LATEST, winner.digest)
        return Published(ref, winner, is_new)

    def name(self, manifest: Manifest, name: str) -> ArtifactRef:
        """The version of this artifact under a name. Writes only what a crash left undone."""
        ref, is_new = self.names.publish(manifest.kind, name, Pointer.to(manifest))
        if is_new or not self.names.was_latest(ref):
            self.names.move(ref, LATEST, manifest.digest)
        return ref

    def resolve(self, ref: str | ArtifactRef) -> tuple[ArtifactRef, Manifest]:
        """What a ref means now: (ref with vN, manifest). Raises ResourceError if there is none."""
        version = self._version(ArtifactRef.parse(ref) if isinstance(ref, str) else ref)
        return version.ref, self.manifest(version.pointer)

    def aliases(self, kind: str, name: str) -> dict[str, Alias]:
        """The aliases of a name, ``latest`` included."""
        return self.names.aliases(kind, name)

    def set_alias(self, ref: str | ArtifactRef, alias: str) -> ArtifactRef:
        """Point an alias to what ``ref`` means now, and return that."""
        if check_alias(alias) == LATEST:
            raise UsageError("the alias latest moves by itself", "choose another, such as prod")
        version = self._version(ArtifactRef.parse(ref) if isinstance(ref, str) else ref)
        self.names.move(version.ref, alias, version.pointer.digest)
        return version.ref

    def verify(self, ref: str | ArtifactRef | None = None, *, deep: bool = True) -> list[Problem]:
        """Check one artifact, or with None everything: what is damaged, by name. ``deep`` re-hashes."""
        return verify(self, ref, deep=deep)

    def gc(self, *, dry_run: bool = False, grace_s: float = 24 * 3600) -> GcReport:
        """Remove what nothing refers to and is older than ``grace_s``, and finished attempts."""
        return collect(self, dry_run=dry_run, grace_s=grace_s)

    def attempt_dir(self, fingerprint: str) -> Path:
        """The folder that unfinished work of a fingerprint keeps between attempts; made if absent."""
        folder = self._attempt_path(fingerprint)
        make_directories(folder)
        return folder

    def drop_attempt(self, fingerprint: str) -> None:
        """Remove that folder; nothing happens if there is none."""
        folder = self._attempt_path(fingerprint)
        if folder.is_dir():
            with disk_errors(folder):
                shutil.rmtree(folder)

    def list(self, kind: str | None = None, name: str | None = None) -> list[Version]:
        """Every version, of all kinds, one kind, or one name, in order."""
        return list(self.names.versions(kind, name))

    def _attempt_path(self, fingerprint: str) -> Path:
        key = layout.attempt(fingerprint)
        return self.backend.local_path(key) or home() / key

    def _version(self, ref: ArtifactRef) -> Version:
        if ref.version is not None:
            found = self.names.version(ref)
        elif ref.digest is not None:
            found = self._by_digest(ref, ref.digest)
        else:
            alias = self.names.alias(ref.kind, ref.name, ref.alias or LATEST)
            target = alias and ArtifactRef(ref.kind, ref.name, version=alias.version)
            found = self.names.version(target) if target else None
            if alias and (found is None or found.pointer.digest != alias.digest):
                raise DataError(
                    f"alias {ref} is damaged: v{alias.version} is another artifact", "set it again"
                )
        if found is None:
            raise ResourceError(f"no artifact {ref}", self._suggestion(ref))
        return found

    def _by_digest(self, ref: ArtifactRef, prefix: str) -> Version | None:
        matches = [v for v in self.names.versions(ref.kind, ref.name) if v.pointer.digest.startswith(prefix)]
        if len({version.pointer.digest for version in matches}) > 1:
            raise UsageError(f"{ref} means more than one artifact", "give more digits")
        return matches[0] if matches else None

    def _suggestion(self, ref: ArtifactRef) -> str:
        known = sorted({f"{found.kind}/{found.name}" for found in self.names.version_keys()})
        wanted = f"{ref.kind}/{ref.name}"
        if wanted in known:
            newest = self.names.version_keys(ref.kind, ref.name)[-1]
            return f"the newest version is {newest}"
        close = difflib.get_close_matches(wanted, known, n=1)
        return f"did you mean {close[0]}?" if close else "nanochat art ls shows what there is"

    def _upload(self, folder: Path, entries: tuple[FileEntry, ...]) -> None:
        for entry in entries:
            key = layout.blob(entry.sha256)
            if not (self._has_blob(entry) and self.backend.touch(key)):
                self.backend.upload(key, folder / entry.path, sha256=entry.sha256)

    def _has_blob(self, entry: FileEntry) -> bool:
        """True if the blob is stored, intact: a forced rebuild mends a damaged one."""
        key = layout.blob(entry.sha256)
        if self.backend.size(key) != entry.size:
            return False
        path = self.backend.local_path(key)
        return path is None or digest_into(path) == entry.sha256

    def _put_manifest(self, manifest: Manifest) -> None:
        key, data = layout.manifest(manifest.hex), manifest.to_bytes()
        if not self.backend.put_new(key, data) and self.backend.get(key) != data:
            self.backend.put(key, data)
        self.backend.touch(key)

    def _claim(self, key: str, manifest: Manifest, replace: bool, lease: Lease | None) -> Manifest:
        """Make the fingerprint's pointer, or obey the one that is there. Returns what answers now."""
        pointer = Pointer.to(manifest)
        while True:
            current = self.backend.get(key)
            if current is not None and not replace:
                return self.manifest(_pointer(key, current, manifest.stage))
            if (
                current is not None
                and (winner := self._intact(key, current))
                and winner.digest == manifest.digest
            ):
                return winner
            if lease is not None:
                lease.check()
            if self.backend.compare_and_swap(key, current, pointer.encode()):
                return manifest

    def _publish(self, manifest: Manifest, name: str) -> tuple[ArtifactRef, bool]:
        """Find or make the version. One with this digest but a damaged manifest or run/ is mended."""
        pointer = Pointer.to(manifest)
        ref, is_new = self.names.publish(manifest.kind, name, pointer)
        key = layout.version(ref.kind, ref.name, ref.version or 0)
        current = self.backend.get(key)
        if not is_new and current not in (None, pointer.encode()) and not self._intact(key, current):
            self.backend.compare_and_swap(key, current, pointer.encode())
        return ref, is_new

    def _intact(self, key: str, data: bytes | None) -> Manifest | None:
        """The artifact behind a pointer, or None if anything of it is damaged; hashes all its files."""
        try:
            manifest = self.manifest(Pointer.decode(key, data or b""))
        except DataError:
            return None
        return None if any(file_problems(self, manifest, deep=True)) else manifest


def _pointer(key: str, data: bytes, stage: str) -> Pointer:
    try:
        return Pointer.decode(key, data)
    except DataError as error:
        raise DataError(error.message, f"rebuild it: nanochat run PRESET --force {stage}") from error


def _is_used(backend: Backend) -> bool:
    """True if the folder of a local backend holds anything but hidden files."""
    path = backend.local_path(layout.STORE)
    if path is None:
        return False
    with disk_errors(path.parent):
        try:
            return any(not name.startswith(".") for name in os.listdir(path.parent))
        except FileNotFoundError:
            return False


def _entries(folder: Path, *, is_payload: bool = False) -> tuple[FileEntry, ...]:
    """Every file of a folder, hashed, sorted by path. Refuses links and names outside the grammar."""
    entries: list[FileEntry] = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise DataError(f"{relative} is not a plain file", "an artifact holds files and folders only")
        if is_payload and relative.split("/")[0] == RUN_FOLDER:
            raise DataError(
                f"{relative}: a payload has no {RUN_FOLDER}/", "that folder is for logs and records"
            )
        if path.is_file():
            relative_path(relative)
            entries.append(FileEntry(path=relative, size=path.stat().st_size, sha256=digest_into(path)))
    return tuple(entries)
