"""Where an artifact came from, and what was made from it: walks over parents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from artifacts.manifest import Manifest
from artifacts.names import Pointer
from artifacts.ref import ArtifactRef

if TYPE_CHECKING:
    from artifacts.store import Store

Graph = dict[str, Any]
_Neighbours = list[tuple[str, Manifest, str]]  # (ref, manifest, role)


def graph(store: Store, ref: str | ArtifactRef) -> Graph:
    """``{"root", "nodes", "edges"}`` of everything that ``ref`` was made from; the root comes first."""

    def parents(manifest: Manifest) -> _Neighbours:
        return [
            (parent.ref, store.manifest(Pointer.to_parent(parent)), parent.role)
            for parent in manifest.parents
        ]

    return _walk(store, ref, parents, upwards=True)


def descendants(store: Store, ref: str | ArtifactRef) -> Graph:
    """The same for everything that was made from ``ref`` and has a name."""
    children: dict[str, _Neighbours] = defaultdict(list)
    for version in store.list():
        child = store.manifest(version.pointer)
        for parent in child.parents:
            children[parent.digest].append((str(version.ref), child, parent.role))
    return _walk(store, ref, lambda manifest: children[manifest.digest], upwards=False)


def node(ref: str, manifest: Manifest) -> dict[str, Any]:
    """One artifact as commands print it."""
    provenance = manifest.provenance.model_dump(mode="json")
    return {
        "ref": ref, "kind": manifest.kind, "digest": manifest.digest, "stage": manifest.stage,
        "config": manifest.recipe.get("config", {}), "provenance": provenance,
    }  # fmt: skip


def _walk(
    store: Store, ref: str | ArtifactRef, neighbours: Callable[[Manifest], _Neighbours], *, upwards: bool
) -> Graph:
    found, manifest = store.resolve(ref)
    root = str(found)
    nodes, edges, pending = {root: node(root, manifest)}, [], [(root, manifest)]
    while pending:
        here, current = pending.pop(0)
        for there, other, role in neighbours(current):
            parent, child = (there, here) if upwards else (here, there)
            edges.append({"parent": parent, "child": child, "role": role})
            if there not in nodes:
                nodes[there] = node(there, other)
                pending.append((there, other))
    return {"root": root, "nodes": list(nodes.values()), "edges": edges}
