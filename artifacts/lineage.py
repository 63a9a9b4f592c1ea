"""Where an artifact came from, and what was made from it: walks over parents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from artifacts.listing import listing
from artifacts.manifest import Manifest
from artifacts.names import Pointer
from artifacts.ref import ArtifactRef

if TYPE_CHECKING:
    from artifacts.store import Store

Graph = dict[str, Any]
Node = dict[str, Any]
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
    found = listing(store.backend)
    for listed, child in zip(found, store.manifests([item.entry.pointer for item in found]), strict=True):
        for parent in child.parents:
            children[parent.digest].append((str(listed.ref), child, parent.role))
    return _walk(store, ref, lambda manifest: children[manifest.digest], upwards=False)


def node(ref: str, manifest: Manifest) -> Node:
    """One artifact as commands print it."""
    provenance = manifest.provenance.model_dump(mode="json")
    return {
        "ref": ref, "kind": manifest.kind, "digest": manifest.digest, "stage": manifest.stage,
        "config": manifest.recipe.get("config", {}), "provenance": provenance,
    }  # fmt: skip


def detailed(store: Store, graph: Graph) -> Graph:
    """The graph with more of each manifest in its node.

    That is ``manifest`` (its sha256), ``created``, ``bytes``, ``files`` (how many), ``metrics``,
    ``key_metric``, ``parents`` (role, ref, digest of all, also of those outside the graph).
    """
    pointers: dict[str, Pointer] = {}
    nodes = []
    for known in graph["nodes"]:  # a child comes before its parents, so they are found without their names
        pointer = pointers.get(known["ref"]) or store.names.find(known["ref"]).pointer
        manifest = store.manifest(pointer)
        for parent in manifest.parents:
            pointers.setdefault(parent.ref, Pointer.to_parent(parent))
        parents = [{"role": item.role, "ref": item.ref, "digest": item.digest} for item in manifest.parents]
        more = {
            "manifest": pointer.manifest, "created": manifest.created, "bytes": manifest.total_bytes,
            "files": len(manifest.all_files()), "metrics": manifest.metrics,
            "key_metric": manifest.key_metric, "parents": parents,
        }  # fmt: skip
        nodes.append(known | more)
    return graph | {"nodes": nodes}


def oldest_first(graph: Graph) -> list[Node]:
    """The nodes, each after its parents."""
    nodes = {node["ref"]: node for node in graph["nodes"]}
    parents: dict[str, list[str]] = defaultdict(list)
    for edge in graph["edges"]:
        parents[edge["child"]].append(edge["parent"])
    order: dict[str, Node] = {}
    entered: set[str] = set()
    pending = [(ref, False) for ref in reversed(nodes)]
    while pending:
        ref, is_left = pending.pop()
        if is_left:
            order[ref] = nodes[ref]
        elif ref not in entered:
            entered.add(ref)
            pending.append((ref, True))
            pending.extend((parent, False) for parent in reversed(parents[ref]))
    return list(order.values())


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
