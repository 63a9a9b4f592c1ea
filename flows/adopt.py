"""Makes an artifact of a folder that no run of this store made: opened as its readers would, copied, stored.

Its fingerprint is one of the stage ``adopt``, so it answers for no stage's: who wants it says so, with
``--reuse``.
"""

from __future__ import annotations

from pathlib import Path

from artifacts.atomic import copy_file, digest_into, make_directories
from artifacts.commit import RUN_FOLDER, publish_latest
from artifacts.errors import DataError, NanochatError, ResourceError, UsageError
from artifacts.fingerprint import recipe, sha256_json
from artifacts.lease import Lease
from artifacts.manifest import ADOPTED, Draft, FileEntry, Manifest, Provenance, payload_digest
from artifacts.paths import relative_path
from artifacts.ref import LATEST, ArtifactRef
from artifacts.store import Store
from flows.payloads import reader_of


def adopt(store: Store, name: str, folder: Path, *, force: bool = False) -> tuple[ArtifactRef, Manifest]:
    """The version of ``kind/name`` with the files of ``folder``; its ``run/`` goes beside the payload.

    Raises DataError that names a missing or damaged file; then nothing is stored. ``force``: store it again
    although it is there, which mends it.
    """
    ref = ArtifactRef.parse(name)
    if ref.alias != LATEST or "@" in name:
        raise UsageError(f"{name!r} says which version", "write kind/name: the store numbers its versions")
    read = reader_of(ref.kind)
    if not folder.is_dir():
        raise ResourceError(f"{folder} is no folder", f"name one with the files of a {ref.kind} artifact")
    entries = _entries(folder)
    try:
        metrics, key_metric = read(folder)
    except NanochatError as error:
        hint = f"{error.hint}; nothing was stored" if error.hint else "nothing was stored"
        raise DataError(f"{folder.name} is no {ref.kind} artifact: {error.message}", hint) from error
    digest = payload_digest(tuple(entry for entry in entries if not _is_run(entry)))
    identity = recipe(ADOPTED, 1, {"kind": ref.kind}, inputs={}, modules={}, extra={"adopted": digest})
    draft = Draft(
        stage=ADOPTED, kind=ref.kind, fingerprint=sha256_json(identity), recipe=identity, metrics=metrics,
        key_metric=key_metric, provenance=Provenance(
            command=f"nanochat art adopt {ref.kind}/{ref.name} FOLDER", settings={"adopted": True}
        ),
    )  # fmt: skip
    with Lease(store, f"{ADOPTED}/{draft.fingerprint}") as lease:
        if not force and (found := store.lookup(ADOPTED, draft.fingerprint)) is not None:
            store.check(found)
            return publish_latest(store, found, ref.name)[0], found
        return _store(store, draft, folder, entries, ref.name, force, lease)


def _store(
    store: Store, draft: Draft, folder: Path, entries: list[FileEntry], name: str, force: bool, lease: Lease
) -> tuple[ArtifactRef, Manifest]:
    """Commit a copy: the store may keep the very files that it is given, and these are the user's."""
    store.drop_attempt(draft.fingerprint)
    attempt = store.attempt_dir(draft.fingerprint)
    try:
        for entry in entries:
            target = attempt / ("." if _is_run(entry) else "output") / entry.path
            make_directories(target.parent)
            copy_file(folder / entry.path, target, sha256=entry.sha256, mode=0o444)
        run = attempt / RUN_FOLDER
        published = store.commit(
            draft, attempt / "output", run if run.is_dir() else None, name=name,
            replace_fingerprint=force, lease=lease, take=True,
        )  # fmt: skip
    finally:
        store.drop_attempt(draft.fingerprint)
    assert published.ref is not None
    return published.ref, published.manifest


def _entries(folder: Path) -> list[FileEntry]:
    """Every file of the folder, hashed; DataError for a link or a name that no artifact can hold."""
    entries = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise DataError(f"{inside} is not a plain file", "an artifact holds files and folders only")
        if path.is_file():
            try:
                relative_path(inside)
            except UsageError as error:
                raise DataError(f"{folder.name}: {error.message}", "move it elsewhere") from error
            entries.append(FileEntry(path=inside, size=path.stat().st_size, sha256=digest_into(path)))
    return entries


def _is_run(entry: FileEntry) -> bool:
    return entry.path.split("/")[0] == RUN_FOLDER
