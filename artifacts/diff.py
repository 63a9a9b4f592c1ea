"""Two artifacts side by side: only what differs between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from artifacts.fingerprint import explain
from artifacts.manifest import Manifest
from artifacts.ref import ArtifactRef

if TYPE_CHECKING:
    from artifacts.store import Store

SECTIONS = ("config", "inputs", "code", "metrics", "provenance", "files")


def diff(store: Store, a: str | ArtifactRef, b: str | ArtifactRef) -> dict[str, Any]:
    """What differs between ``a`` and ``b``: JSON-able, equal artifacts have six empty sections.

    ``{"a", "b": {"ref", "stage", "digest", "fingerprint"}, "config", "inputs", "code", "metrics",
    "provenance", "files": {name: {"a", "b"}}}``. A value that one of them lacks is None. ``inputs``: role ->
    ``{"ref", "digest"}`` where the digest differs. ``code``: digests of modules, the stage's version and
    what else made the recipe. ``files``: path -> sha256. Raises ResourceError if there is no such artifact.
    """
    (ref_a, left), (ref_b, right) = store.resolve(a), store.resolve(b)
    return {"a": _head(ref_a, left), "b": _head(ref_b, right), **differences(left, right)}


def differences(left: Manifest, right: Manifest) -> dict[str, dict[str, Any]]:
    """The sections of ``diff`` alone."""
    recipe_a, recipe_b = left.recipe, right.recipe
    provenance_a, provenance_b = (item.provenance.model_dump(mode="json") for item in (left, right))
    return {
        "config": _differences(recipe_a.get("config", {}), recipe_b.get("config", {})),
        "inputs": _inputs(left, right),
        "code": _differences(_code(recipe_a), _code(recipe_b)),
        "metrics": _differences(left.metrics, right.metrics),
        "provenance": _differences(provenance_a, provenance_b),
        "files": _differences(_digests(left), _digests(right)),
    }  # fmt: skip


def _head(ref: ArtifactRef, manifest: Manifest) -> dict[str, str]:
    return {
        "ref": str(ref), "stage": manifest.stage, "digest": manifest.digest,
        "fingerprint": manifest.fingerprint,
    }  # fmt: skip


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Dotted name -> both values, of the fields that differ."""
    found = explain({"config": a}, {"config": b})
    return {item["name"]: {"a": item["old"], "b": item["new"]} for item in found}


def _inputs(a: Manifest, b: Manifest) -> dict[str, dict[str, Any]]:
    left, right = ({parent.role: parent for parent in item.parents} for item in (a, b))
    found = {}
    for role in sorted(left.keys() | right.keys()):
        pair = {"a": left.get(role), "b": right.get(role)}
        if len({parent and parent.digest for parent in pair.values()}) == 2:
            found[role] = {
                side: parent and {"ref": parent.ref, "digest": parent.digest} for side, parent in pair.items()
            }
    return found


def _code(recipe: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in recipe.items() if name not in ("config", "inputs", "modules")}
    return {**rest, **recipe.get("modules", {})}


def _digests(manifest: Manifest) -> dict[str, str]:
    return {path: entry.sha256 for path, entry in manifest.all_files().items()}
