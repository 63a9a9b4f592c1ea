"""The store of immutable artifacts: which one a fingerprint or a ref means, and the way in and out.

Reading it writes nothing. Nothing becomes visible before it is whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from artifacts import layout
from artifacts.atomic import disk_errors, make_directories
from artifacts.attempts import drop_snapshots
from artifacts.backends.base import Backend
from artifacts.checkout import checkout
from artifacts.commit import Published, commit, publish_latest
from artifacts.errors import DataError, UsageError
from artifacts.gc import GRACE_S, GcReport, collect
from artifacts.lease import GC, Lease
from artifacts.listing import Entry, is_listed, relist
from artifacts.manifest import Draft, Manifest
from artifacts.names import Alias, Names, Pointer, Version
from artifacts.opening import open_place
from artifacts.paths import home
from artifacts.pins import Pin, pin, unpin
from artifacts.ref import LATEST, ArtifactRef, check_alias
from artifacts.retention import Rules
from artifacts.verify import MISSING, WRONG_BYTES, Problem, damaged, file_problems, verify


class Store:
    """A store of immutable artifacts. Raises ResourceError if its storage fails, DataError at damage."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.names = Names(backend)

    @classmethod
    def open(cls, url: str = "", *, create: bool = True) -> Store:
        """Open the store at a URL or folder; see ``open_place``."""
        return cls(open_place(url, create=create))

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
        return self._checked(pointer, self.backend.get(layout.manifest(pointer.manifest)))

    def manifests(self, pointers: Sequence[Pointer]) -> Iterator[Manifest]:
        """The same for many, several under way at once."""
        found = self.backend.get_many([layout.manifest(pointer.manifest) for pointer in pointers])
        return map(self._checked, pointers, found)

    def _checked(self, pointer: Pointer, data: bytes | None) -> Manifest:
        key = layout.manifest(pointer.manifest)
        if data is None:
            raise damaged(self, pointer, key, MISSING)
        try:
            manifest = Manifest.from_bytes(data)
        except DataError as error:
            raise damaged(self, pointer, key, f"is not valid ({error.message})") from error
        if manifest.to_bytes() != data or manifest.hex != pointer.manifest:
            raise damaged(self, pointer, key, WRONG_BYTES)
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
        take: bool = False,
    ) -> Published:
        """Store a finished artifact and name it. May be repeated after a crash at any moment.

        If the fingerprint is answered already, that artifact wins and this one is dropped, unless
        ``replace_fingerprint`` (a forced rebuild): then an equal digest keeps the intact old artifact,
        and another one answers from now on. ``lease``: raises LeaseLost if it was taken over.
        ``take``: nobody writes to these files any more, so a store on the same disk may take links to
        them instead of copies.
        """
        return commit(
            self, draft, payload, run, name=name, replace_fingerprint=replace_fingerprint, lease=lease,
            take=take,
        )  # fmt: skip

    def name(self, manifest: Manifest, name: str) -> ArtifactRef:
        """The version of this artifact under a name. Writes only what a crash left undone."""
        ref, is_new = self.names.publish(manifest.kind, name, Pointer.to(manifest))
        is_late = not is_new and self.names.awaits_latest(ref)
        if is_new:
            self.names.move(ref, LATEST, manifest.digest)
        elif is_late:
            ref, _ = publish_latest(self, manifest, name)
        if is_new or is_late or not is_listed(self.backend, ref):
            entry = Entry.of(manifest) if is_new else None
            relist(self.backend, ref.kind, ref.name, {ref.version or 0: entry})
        return ref

    def resolve(self, ref: str | ArtifactRef) -> tuple[ArtifactRef, Manifest]:
        """What a ref means now: (ref with vN, manifest). Raises ResourceError if there is none."""
        version = self.names.find(ref)
        return version.ref, self.manifest(version.pointer)

    def aliases(self, kind: str, name: str) -> dict[str, Alias]:
        """The aliases of a name, ``latest`` included."""
        return self.names.aliases(kind, name)

    def set_alias(self, ref: str | ArtifactRef, alias: str) -> ArtifactRef:
        """Point an alias to what ``ref`` means now, and return that."""
        if check_alias(alias) == LATEST:
            raise UsageError("the alias latest moves by itself", "choose another, such as prod")
        with Lease(self, GC):  # either gc sees the alias, or the artifact is gone and this says so
            version = self.names.find(ref)
            self.names.move(version.ref, alias, version.pointer.digest)
            relist(self.backend, version.ref.kind, version.ref.name)
        return version.ref

    def pin(self, ref: str | ArtifactRef, note: str = "") -> Pin:
        """Keep what ``ref`` means now, and all that it was made from, whatever rules gc is given."""
        return pin(self, ref, note)

    def unpin(self, ref: str | ArtifactRef) -> ArtifactRef:
        """Remove the pin of a version, and return that. Raises ResourceError if it has none."""
        return unpin(self, ref)

    def verify(self, ref: str | ArtifactRef | None = None, *, deep: bool = True) -> list[Problem]:
        """Check one artifact, or with None everything: what is damaged, by name. ``deep`` re-hashes."""
        return verify(self, ref, deep=deep)

    def gc(self, *, dry_run: bool = False, grace_s: float = GRACE_S, rules: Rules | None = None) -> GcReport:
        """Remove what nothing refers to and is older than ``grace_s``, and ended attempts.

        ``rules``: first take the versions and fingerprints away that these do not keep and nothing needs.
        """
        return collect(self, dry_run=dry_run, grace_s=grace_s, rules=rules)

    def attempt_dir(self, fingerprint: str) -> Path:
        """This machine's folder for unfinished work of a fingerprint, kept for a next try; made if absent."""
        folder = self._attempt_path(fingerprint)
        make_directories(folder)
        return folder

    def drop_attempt(self, fingerprint: str) -> None:
        """Remove that folder, and what the store has of the attempt; nothing happens if there is none."""
        folder = self._attempt_path(fingerprint)
        if folder.is_dir():
            with disk_errors(folder):
                shutil.rmtree(folder)
        if not self.is_here:
            drop_snapshots(self, fingerprint)

    @property
    def is_here(self) -> bool:
        """Whether it is a folder on this machine, in which attempts lie as well."""
        return self.backend.local_path(layout.STORE) is not None

    def list(self, kind: str | None = None, name: str | None = None) -> list[Version]:
        """Every version, of all kinds, one kind, or one name, in order."""
        return list(self.names.versions(kind, name))

    def _attempt_path(self, fingerprint: str) -> Path:
        key = layout.attempt(fingerprint)
        return self.backend.local_path(key) or home() / key


def _pointer(key: str, data: bytes, stage: str) -> Pointer:
    try:
        return Pointer.decode(key, data)
    except DataError as error:
        raise DataError(error.message, f"rebuild it: nanochat run PRESET --force {stage}") from error
