from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.errors import DataError
from artifacts.inventory import take_inventory
from artifacts.store import Store


def test_an_artifact_has_its_pointers_its_manifests_and_its_parents(
    make, store: Store, parent_of: Callable
) -> None:
    tokenizer = make.commit({"t": b"t"}, stage="tokenizer", name=None)
    base = make.commit({"m": b"m"}, parents=(parent_of(tokenizer, "tokenizer"),))
    again = make.commit({"m": b"m"}, config={"x": 1})  # the same bytes by another recipe: v1 has them
    found = take_inventory(store, 0)
    one, other = ("tokenizer", tokenizer.manifest.digest), ("base", base.manifest.digest)
    assert set(found.holdings) == {one, other}
    assert found.holdings[other].manifests == {base.manifest.hex, again.manifest.hex}
    assert [str(ref) for ref in found.holdings[other].versions] == ["base/demo@v1"]
    assert len(found.holdings[other].pointers) == 3
    assert found.holdings[one].versions == {}
    assert found.with_ancestors([other]) == {one, other}
    assert found.with_ancestors([one]) == {one}
    assert found.children_first({one, other}) == [other, one]
    assert found.needed_by([one]) < found.needed_by([other])


def test_a_young_manifest_counts_although_nothing_points_to_it(make, store: Store, root: Path) -> None:
    manifest = make.commit(name=None).manifest
    next((root / "fingerprints").rglob("*.json")).unlink()
    assert set(take_inventory(store, 3600).graph.manifests) == {manifest.hex}
    assert take_inventory(store, -1).graph.manifests == {}


def test_damage_of_what_is_pointed_to_is_an_error_of_the_rest_is_not(
    make, store: Store, root: Path, flip: Callable
) -> None:
    manifest = make.commit(name=None).manifest
    flip(root / "manifests" / f"{manifest.hex}.json", 30)
    with pytest.raises(DataError):
        take_inventory(store, 3600)
    next((root / "fingerprints").rglob("*.json")).unlink()
    take_inventory(store, 3600)
