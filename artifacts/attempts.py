"""Snapshots of unfinished work in a store that is not on this disk, for another machine to go on from.

A snapshot is a folder at a step: its files lie under ``attempts/FINGERPRINT/STEP-FENCE/``, and it counts
once ``attempts/FINGERPRINT/STEP-FENCE.json`` is there, which is written last and has the size and sha256 of
each. FENCE is the number of the lease: who lost it never writes to what its successor made.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from artifacts import layout
from artifacts.atomic import make_directories
from artifacts.errors import DataError, UsageError
from artifacts.manifest import FileEntry
from artifacts.paths import safe_join

if TYPE_CHECKING:
    from artifacts.lease import Lease
    from artifacts.store import Store

KEPT = 2  # the newest may turn out to be damaged
logger = logging.getLogger(__name__)


class _Files(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Literal[1] = 1
    files: tuple[FileEntry, ...]


def newest_snapshot(store: Store, fingerprint: str) -> int:
    """The highest step of which the store has a snapshot that counts; -1 if there is none."""
    return max((snapshot.step for snapshot in _counting(_parts(store, fingerprint))), default=-1)


def put_snapshot(store: Store, lease: Lease, fingerprint: str, step: int, folder: Path) -> None:
    """Store the files of ``folder`` as the work at ``step``; older snapshots than the newest two go.

    LeaseLost, and it does not count, if ``lease`` was taken over meanwhile. ResourceError if the storage
    fails: a snapshot that is half there does not count either, and goes with the next one.
    """
    snapshot = layout.Snapshot(fingerprint, step, lease.fence)
    entries = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        sha256 = store.backend.upload(snapshot.file(name), path)
        entries.append(FileEntry(path=name, size=size, sha256=sha256))
    lease.check()
    store.backend.put(snapshot.manifest, _Files(files=tuple(entries)).model_dump_json().encode())
    _prune(store, lease, fingerprint)


def fetch_snapshot(store: Store, fingerprint: str, folder: Path, *, after: int = -1) -> int | None:
    """Download the newest snapshot above step ``after`` to ``folder``, verified; its step, or None.

    A damaged one is passed over with a warning. DataError if all are, and ``after`` says that there is
    nothing else: starting again from nothing must be somebody's decision.
    """
    newer = [found for found in _counting(_parts(store, fingerprint)) if found.step > after]
    for found in newer:
        try:
            _download(store, found, folder)
        except DataError as error:
            logger.warning("skipping a damaged checkpoint of %s: %s", store.backend.url, error)
            shutil.rmtree(folder, ignore_errors=True)
        else:
            return found.step
    if newer and after < 0:
        raise DataError(
            f"{layout.attempt(fingerprint)}: none of the {len(newer)} checkpoints in the store is intact",
            "run the stage with --force to start it from scratch",
        )
    return None


def drop_snapshots(store: Store, fingerprint: str) -> None:
    """Remove all that the store has of an attempt."""
    _delete(store, [info.key for info in store.backend.list(f"{layout.attempt(fingerprint)}/")])


def _download(store: Store, snapshot: layout.Snapshot, folder: Path) -> None:
    try:
        files = _Files.model_validate_json(store.backend.get(snapshot.manifest) or b"").files
    except (ValidationError, UsageError) as error:
        raise DataError(f"{snapshot.manifest} is damaged: {' '.join(str(error).split())}") from None
    for entry in files:
        target = safe_join(folder, entry.path)
        make_directories(target.parent)
        if store.backend.download(snapshot.file(entry.path), target) != entry.sha256:
            raise DataError(f"{snapshot.file(entry.path)} is missing, or not the file that was stored")
        target.chmod(0o644)


def _prune(store: Store, lease: Lease, fingerprint: str) -> None:
    """Remove older snapshots, and what was left half-stored, by this lease's holders and those before."""
    parts = _parts(store, fingerprint)
    kept = _counting(parts)[:KEPT]
    lease.check()
    _delete(store, [key for key, part in parts.items() if part not in kept and part.fence <= lease.fence])


def _parts(store: Store, fingerprint: str) -> dict[str, layout.Snapshot]:
    """Key -> the snapshot that it belongs to, of all that the store has of an attempt."""
    keys = [info.key for info in store.backend.list(f"{layout.attempt(fingerprint)}/")]
    found = {key: layout.snapshot_of(key) for key in keys}
    return {key: snapshot for key, snapshot in found.items() if snapshot is not None}


def _counting(parts: dict[str, layout.Snapshot]) -> list[layout.Snapshot]:
    """The snapshots whose manifest is there, the newest first."""
    return sorted((snapshot for key, snapshot in parts.items() if key == snapshot.manifest), reverse=True)


def _delete(store: Store, keys: list[str]) -> None:
    """The manifests go first, so that nothing counts which is there in part."""
    for key in sorted(keys, key=lambda key: key.count("/")):
        store.backend.delete(key)
