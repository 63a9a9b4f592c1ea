"""Removes what nothing needs any more: not a name, not a fingerprint, not what was made from it.

Rules may take names and fingerprints away before that (``artifacts.retention``); their objects are removed
by a later run, after the grace period.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.inventory import Graph, Inventory, Key, read, take_inventory
from artifacts.lease import GC, Lease
from artifacts.listing import mend
from artifacts.retention import DAY_S, Rules, expire, expiring, read_marks

if TYPE_CHECKING:
    from artifacts.backends.base import ObjectInfo
    from artifacts.store import Store

GRACE_S = DAY_S
ABANDONED_S = 30 * DAY_S
_AT_ONCE = 50


@dataclass(frozen=True)
class Expired:
    """An artifact that lost its versions (``refs``; without any, what it is known as) by a rule."""

    refs: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class GcReport:
    """What was removed, or with ``dry_run`` would be: keys of objects and of attempt folders.

    ``later``: objects that nothing needs but that are still young; unless somebody uses them, they go when
    the grace period is over.
    """

    removed: tuple[str, ...]
    bytes: int
    dry_run: bool
    expired: tuple[Expired, ...] = ()
    later: tuple[str, ...] = ()
    later_bytes: int = 0


def collect(store: Store, *, dry_run: bool, grace_s: float = GRACE_S, rules: Rules | None = None) -> GcReport:
    """Expire by ``rules``; remove unneeded objects, finished attempts and leftovers older than ``grace_s``.

    Unfinished attempts go when nobody has worked on them for ``ABANDONED_S``. The grace period protects
    commits under way: they create each object that they use, or ``keep`` it. Raises DataError, and removes
    nothing, if a damaged manifest hides what it refers to.
    """
    # Listed before it is known what is needed: what a commit touches in between is in one of the two.
    listed: list[ObjectInfo] = []
    for prefix in (layout.MANIFESTS, layout.BLOBS, layout.SIGNATURES):
        listed += store.backend.list(f"{prefix}/")
    inventory = take_inventory(store, grace_s)
    kept = inventory.graph.objects(inventory.graph.manifests)
    gone = expiring(inventory, rules, read_marks(store), grace_s) if rules else set()
    sizes = {
        info.key: info.size
        for info in listed
        if layout.lives_with(info.key) not in kept and info.age_s > grace_s
    }
    others = {info.key: info.size for info in listed if info.key not in sizes}
    attempts = _ended_attempts(store, grace_s)
    leftovers = {info.key: info.size for info in store.backend.leftovers() if info.age_s > grace_s}
    if not dry_run:
        for fingerprint in attempts:
            store.drop_attempt(fingerprint)
        gone = set(expire(store, inventory, gone, grace_s))
        deleted = _delete_old(store, list(sizes), grace_s)
        sizes = {key: size for key, size in sizes.items() if key in deleted}
        for key in leftovers:
            store.backend.delete_leftover(key)
        mend(store.backend, inventory.listed(without=gone))
    removed = sizes | {layout.attempt(item): size for item, size in attempts.items()} | leftovers
    needed = inventory.needed_by(inventory.holdings.keys() - gone)
    later = {key: size for key, size in others.items() if layout.lives_with(key) not in needed}
    return GcReport(
        tuple(sorted(removed)), sum(removed.values()), dry_run,
        _described(inventory, gone), tuple(sorted(later)), sum(later.values()),
    )  # fmt: skip


def keep(store: Store, keys: list[str]) -> set[str]:
    """Protect objects that a commit found and is about to refer to; returns those that are still there.

    Their age starts again at zero. Nothing is deleted meanwhile: gc holds the same lease while it makes
    sure of an object's age and deletes it.
    """
    if not keys:
        return set()
    with Lease(store, GC):
        return {key for key in keys if store.backend.touch(key)}


def _delete_old(store: Store, keys: list[str], grace_s: float) -> set[str]:
    """Delete what is still old, a few objects for each time that the lease is held; returns what is gone.

    A manifest goes before the manifests and files that it needs. One that became young meanwhile, since a
    commit made something from it, keeps them all.
    """
    prefix = f"{layout.MANIFESTS}/"
    found = {key: read(store, key) for key in keys if key.startswith(prefix)}
    graph = Graph({_sha256(key): manifest for key, manifest in found.items() if manifest is not None})
    ordered = [layout.manifest(sha256) for sha256 in graph.children_first()]
    ordered += [key for key in keys if found.get(key) is None]
    gone: set[str] = set()
    spared: set[str] = set()
    for start in range(0, len(ordered), _AT_ONCE):
        with Lease(store, GC) as lease:
            for key in ordered[start : start + _AT_ONCE]:
                info = store.backend.info(key)
                if info is None or key in spared:
                    continue
                if info.age_s > grace_s:
                    lease.check()
                    store.backend.delete(key)
                    gone.add(key)
                elif key.startswith(prefix):
                    spared |= graph.objects(graph.with_ancestors([_sha256(key)]))
    return gone


def _sha256(manifest_key: str) -> str:
    return manifest_key.rpartition("/")[2].removesuffix(".json")


def _described(inventory: Inventory, keys: set[Key]) -> tuple[Expired, ...]:
    found = []
    for key in keys:
        holding = inventory.holdings[key]
        manifest = inventory.graph.manifests[min(holding.pointed)]
        refs = [str(ref) for ref in sorted(holding.versions)]
        name = refs or [f"{manifest.stage}@sha256:{manifest.digest[:12]}"]
        found.append(Expired(tuple(name), manifest.total_bytes))
    return tuple(sorted(found, key=lambda item: item.refs))


def _ended_attempts(store: Store, grace_s: float) -> dict[str, int]:
    """Fingerprint -> bytes of the attempts that ended: in a committed artifact, or given up."""
    committed = {info.key.rpartition("/")[2].removesuffix(".json") for info in
                 store.backend.list(f"{layout.FINGERPRINTS}/")}  # fmt: skip
    sizes: dict[str, int] = defaultdict(int)
    youngest_s: dict[str, float] = {}
    for info in store.backend.list(f"{layout.ATTEMPTS}/"):
        fingerprint = info.key.split("/")[1]
        sizes[fingerprint] += info.size
        youngest_s[fingerprint] = min(info.age_s, youngest_s.get(fingerprint, info.age_s))
    return {
        item: size
        for item, size in sizes.items()
        if youngest_s[item] > (grace_s if item in committed else ABANDONED_S)
    }
