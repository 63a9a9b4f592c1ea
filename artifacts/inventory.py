"""What a store holds: every artifact with the pointers to it, and what each was made from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.errors import DataError
from artifacts.listing import Entry
from artifacts.manifest import Manifest
from artifacts.names import Pointer
from artifacts.ref import ArtifactRef

if TYPE_CHECKING:
    from artifacts.store import Store

Key = tuple[str, str]  # kind, digest


class Graph:
    """Manifests by their sha256, and which of them others were made from."""

    def __init__(self, manifests: Mapping[str, Manifest]) -> None:
        self.manifests = manifests

    def with_ancestors(self, starts: Iterable[str]) -> set[str]:
        """``starts`` and all that they were made from, as far as it is in the graph."""
        found: set[str] = set()
        pending = list(starts)
        while pending:
            here = pending.pop()
            if here in self.manifests and here not in found:
                found.add(here)
                pending += self._parents(here)
        return found

    def children_first(self) -> list[str]:
        """All of them, each before what it was made from."""
        order = TopologicalSorter({here: self._parents(here) for here in self.manifests}).static_order()
        return [here for here in order if here in self.manifests][::-1]

    def objects(self, chosen: Iterable[str]) -> set[str]:
        """Keys of these manifests and of their files."""
        keys: set[str] = set()
        for here in chosen:
            keys.add(layout.manifest(here))
            keys.update(layout.blob(entry.sha256) for entry in self.manifests[here].all_files().values())
        return keys

    def _parents(self, here: str) -> list[str]:
        return [parent.manifest for parent in self.manifests[here].parents]


@dataclass
class Holding:
    """One artifact, that is one kind and digest: its manifests, and what points to them with its age."""

    manifests: set[str] = field(default_factory=set)
    pointers: dict[str, Pointer] = field(default_factory=dict)
    ages_s: dict[str, float] = field(default_factory=dict)
    versions: dict[ArtifactRef, float] = field(default_factory=dict)

    @property
    def pointed(self) -> set[str]:
        """The manifests that a name or a fingerprint points to."""
        return {pointer.manifest for pointer in self.pointers.values()}

    @property
    def youngest_s(self) -> float:
        """Age of the newest version, or of the fingerprint's pointer where there is no version."""
        return min((self.versions or self.ages_s).values())


@dataclass(frozen=True)
class Inventory:
    """All artifacts that something points to or that are young, with all that they were made from."""

    graph: Graph
    holdings: dict[Key, Holding]

    def key_of(self, manifest: str) -> Key:
        """The artifact that a manifest belongs to."""
        found = self.graph.manifests[manifest]
        return (found.kind, found.digest)

    def with_ancestors(self, keys: Iterable[Key]) -> set[Key]:
        """These artifacts and all that they were made from."""
        starts = [manifest for key in keys for manifest in self.holdings[key].manifests]
        return {self.key_of(manifest) for manifest in self.graph.with_ancestors(starts)}

    def children_first(self, keys: set[Key]) -> list[Key]:
        """These artifacts, each before what it was made from."""
        order: dict[Key, None] = {}
        for manifest in reversed(self.graph.children_first()):
            order.setdefault(self.key_of(manifest))
        return [key for key in reversed(order) if key in keys]

    def needed_by(self, keys: Iterable[Key]) -> set[str]:
        """Keys of the objects that what points to these artifacts reaches."""
        starts = [manifest for key in keys for manifest in self.holdings[key].pointed]
        return self.graph.objects(self.graph.with_ancestors(starts))

    def listed(self, without: Collection[Key]) -> dict[tuple[str, str], dict[int, Entry]]:
        """What lists have to show of each name, when ``without`` is gone."""
        found: dict[tuple[str, str], dict[int, Entry]] = {}
        for key, holding in self.holdings.items():
            for at, pointer in holding.pointers.items() if key not in without else ():
                if (ref := layout.version_of(at)) is not None:
                    entry = Entry.of(self.graph.manifests[pointer.manifest])
                    found.setdefault(ref[:2], {})[ref[2]] = entry
        return found


def take_inventory(store: Store, grace_s: float) -> Inventory:
    """Read every pointer, what it reaches, and manifests that are at most ``grace_s`` old.

    Raises DataError if something that a pointer reaches is damaged or missing.
    """
    pointers, ages_s = _pointers(store)
    manifests: dict[str, Manifest] = {}
    _walk(store, pointers.values(), manifests)
    for info in store.backend.list(f"{layout.MANIFESTS}/"):
        sha256 = info.key.rpartition("/")[2].removesuffix(".json")
        if info.age_s <= grace_s and sha256 not in manifests and (young := read(store, info.key)):
            with suppress(DataError):  # nothing needs it yet, so it stops nobody; verify says what is wrong
                _walk(store, [Pointer.to(young)], manifests)
    graph = Graph(manifests)
    inventory = Inventory(graph, {})
    for sha256 in manifests:
        inventory.holdings.setdefault(inventory.key_of(sha256), Holding()).manifests.add(sha256)
    for key, pointer in pointers.items():
        holding = inventory.holdings[inventory.key_of(pointer.manifest)]
        holding.pointers[key], holding.ages_s[key] = pointer, ages_s[key]
        if (ref := layout.version_of(key)) is not None:
            holding.versions[ArtifactRef(ref[0], ref[1], version=ref[2])] = ages_s[key]
    return inventory


def read(store: Store, key: str) -> Manifest | None:
    """The manifest under a key, or None if it is missing or damaged."""
    try:
        return Manifest.from_bytes(store.backend.get(key) or b"")
    except DataError:
        return None


def _pointers(store: Store) -> tuple[dict[str, Pointer], dict[str, float]]:
    """Key -> pointer, and its age, of every version and every fingerprint."""
    pointers: dict[str, Pointer] = {}
    ages_s: dict[str, float] = {}
    for prefix in (layout.FINGERPRINTS, layout.NAMES):
        found = {
            info.key: info.age_s
            for info in store.backend.list(f"{prefix}/")
            if prefix == layout.FINGERPRINTS or layout.version_of(info.key) is not None
        }
        for key, data in zip(found, store.backend.get_many(list(found)), strict=True):
            if data is not None:
                pointers[key], ages_s[key] = Pointer.decode(key, data), found[key]
    return pointers, ages_s


def _walk(store: Store, starts: Iterable[Pointer], found: dict[str, Manifest]) -> None:
    """Add what pointers reach to what was found."""
    pending = {pointer.manifest: pointer for pointer in starts if pointer.manifest not in found}
    while pending:
        manifests = list(store.manifests(list(pending.values())))
        found.update(zip(pending, manifests, strict=True))
        parents = (Pointer.to_parent(parent) for manifest in manifests for parent in manifest.parents)
        pending = {pointer.manifest: pointer for pointer in parents if pointer.manifest not in found}
