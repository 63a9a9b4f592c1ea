"""Removes what nothing refers to any more. Names and fingerprints, and the parents of both, are kept."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.lease import Lease
from artifacts.manifest import Manifest
from artifacts.names import Pointer

if TYPE_CHECKING:
    from artifacts.store import Store


_LEASE = "gc"
_AT_ONCE = 50


@dataclass(frozen=True)
class GcReport:
    """What was removed, or with ``dry_run`` would be: keys of objects and of attempt folders."""

    removed: tuple[str, ...]
    bytes: int
    dry_run: bool


def collect(store: Store, *, dry_run: bool, grace_s: float) -> GcReport:
    """Remove unreferenced manifests, blobs, signatures, finished attempts, leftovers older than ``grace_s``.

    The grace period protects commits under way: they create each object that they use, or ``keep`` it.
    Raises DataError, and removes nothing, if a damaged manifest hides what it refers to.
    """
    sizes: dict[str, int] = {}
    kept = _referenced(store)
    for prefix in (layout.MANIFESTS, layout.BLOBS, layout.SIGNATURES):
        for info in store.backend.list(f"{prefix}/"):
            if layout.lives_with(info.key) not in kept and info.age_s > grace_s:
                sizes[info.key] = info.size
    attempts = _finished_attempts(store, grace_s)
    leftovers = {info.key: info.size for info in store.backend.leftovers() if info.age_s > grace_s}
    if not dry_run:
        gone = _delete_old(store, list(sizes), grace_s)
        sizes = {key: size for key, size in sizes.items() if key in gone}
        for fingerprint in attempts:
            store.drop_attempt(fingerprint)
        for key in leftovers:
            store.backend.delete_leftover(key)
    removed = sizes | {layout.attempt(item): size for item, size in attempts.items()} | leftovers
    return GcReport(tuple(sorted(removed)), sum(removed.values()), dry_run)


def keep(store: Store, keys: list[str]) -> set[str]:
    """Protect objects that a commit found and is about to refer to; returns those that are still there.

    Their age starts again at zero. Nothing is deleted meanwhile: gc holds the same lease while it makes
    sure of an object's age and deletes it.
    """
    if not keys:
        return set()
    with Lease(store, _LEASE):
        return {key for key in keys if store.backend.touch(key)}


def _delete_old(store: Store, keys: list[str], grace_s: float) -> set[str]:
    """Delete what is still old, a few objects for each time that the lease is held; returns what is gone."""
    gone: set[str] = set()
    for start in range(0, len(keys), _AT_ONCE):
        with Lease(store, _LEASE) as lease:
            for key in keys[start : start + _AT_ONCE]:
                info = store.backend.info(key)
                if info is not None and info.age_s > grace_s:  # else a commit uses it since it was listed
                    lease.check()
                    store.backend.delete(key)
                    gone.add(key)
    return gone


def _referenced(store: Store) -> set[str]:
    """Keys of every manifest and blob that a name or a fingerprint reaches, through parents too."""
    pending: list[Pointer] = [version.pointer for version in store.names.versions()]
    for info in store.backend.list(f"{layout.FINGERPRINTS}/"):
        if (data := store.backend.get(info.key)) is not None:
            pending.append(Pointer.decode(info.key, data))
    kept: set[str] = set()
    while pending:
        pointer = pending.pop()
        key = layout.manifest(pointer.manifest)
        if key in kept:
            continue
        kept.add(key)
        manifest: Manifest = store.manifest(pointer)
        kept.update(layout.blob(entry.sha256) for entry in manifest.all_files().values())
        pending += [Pointer.to_parent(parent) for parent in manifest.parents]
    return kept


def _finished_attempts(store: Store, grace_s: float) -> dict[str, int]:
    """Fingerprint -> bytes of the attempts that a committed artifact made superfluous."""
    committed = {info.key.rpartition("/")[2].removesuffix(".json") for info in
                 store.backend.list(f"{layout.FINGERPRINTS}/")}  # fmt: skip
    sizes: dict[str, int] = defaultdict(int)
    fresh: set[str] = set()
    for info in store.backend.list(f"{layout.ATTEMPTS}/"):
        fingerprint = info.key.split("/")[1]
        sizes[fingerprint] += info.size
        if info.age_s <= grace_s:
            fresh.add(fingerprint)
    return {item: size for item, size in sizes.items() if item in committed and item not in fresh}
