"""The web app's catalog over a real store, and files of runs as they may be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifacts.errors import ResourceError, UsageError
from artifacts.store import Store
from flows.catalog import StoreCatalog


@pytest.fixture
def catalog(small_home: Path) -> StoreCatalog:
    """Over tokenizer/demo@v1, base/demo@v1 made from it, and tokenizer/demo@v2."""
    return StoreCatalog(Store.open(create=False))


def test_models_are_listed_with_all_their_metrics(catalog: StoreCatalog) -> None:
    (row,) = catalog.checkpoints(9)
    assert (row.ref, row.kind, row.aliases) == ("base/demo@v1", "base", ("latest",))
    assert row.metrics == catalog.artifact("base/demo@v1").metrics
    assert len(catalog.artifacts(9)) == 3
    assert len(catalog.artifacts(2)) == 2


def test_an_alias_moves_by_the_store(catalog: StoreCatalog) -> None:
    assert catalog.set_alias("tokenizer/demo@v1", "prod") == "tokenizer/demo@v1"
    assert catalog.set_alias("tokenizer/demo@v2", "prod") == "tokenizer/demo@v2"
    by_ref = {row.ref: row.aliases for row in catalog.artifacts(9)}
    assert by_ref["tokenizer/demo@v1"] == ()
    assert "prod" in by_ref["tokenizer/demo@v2"]
    with pytest.raises(UsageError, match="moves by itself"):
        catalog.set_alias("tokenizer/demo@v1", "latest")
    with pytest.raises(ResourceError):
        catalog.set_alias("tokenizer/nothing", "prod")


def test_lineage_in_both_directions(catalog: StoreCatalog) -> None:
    above, below = (
        catalog.lineage(ref, forward=ref.startswith("tok")) for ref in ("base/demo", "tokenizer/demo@v1")
    )
    assert (above.root, list(above.nodes)) == ("base/demo@v1", ["base/demo@v1", "tokenizer/demo@v1"])
    assert (below.root, list(below.nodes)) == ("tokenizer/demo@v1", ["tokenizer/demo@v1", "base/demo@v1"])
    (edge,) = above.edges
    assert (edge.parent, edge.child, edge.role) == ("tokenizer/demo@v1", "base/demo@v1", "tokenizer")
    assert list(below.edges) == [edge]


def test_runs_are_read_and_what_is_none_is_left_out(catalog: StoreCatalog, small_home: Path) -> None:
    assert catalog.runs(9) == []
    folder = small_home / "runs"
    folder.mkdir()
    stage = {
        "stage": "base",
        "status": "ran",
        "artifact": "base/demo@v1",
        "seconds": 2.0,
        "metrics": {"steps": 3},
    }
    run = {
        "schema": 1, "name": "demo", "params": {"preset": "demo", "set": {"depth": 2}, "name": ""},
        "started": "2026-11-22T03:04:05+00:00", "seconds": 3.0, "stages": [stage],
    }  # fmt: skip
    (folder / "2-demo.json").write_text(json.dumps(run), encoding="utf-8")
    (folder / "3-torn.json").write_text(json.dumps(run)[:40], encoding="utf-8")
    (folder / "1-other.json").write_text(json.dumps({**run, "name": "other"}), encoding="utf-8")
    assert [found.id for found in catalog.runs(9)] == ["2-demo", "1-other"]
    found = catalog.run("2-demo")
    assert found.settings == {"preset": "demo", "set.depth": 2}
    assert [(item.stage, item.artifact) for item in found.stages] == [("base", "base/demo@v1")]
    for id in ("4", "3-torn", "../../etc/passwd"):
        with pytest.raises(ResourceError):
            catalog.run(id)


def test_what_is_not_there_is_nothing_or_said(catalog: StoreCatalog) -> None:
    assert catalog.curves("base/nothing@v1") == []
    assert catalog.working() == []
    assert catalog.trends(9) == []
    assert catalog.tokenizers(1) == ["tokenizer/demo@v2"]
    with pytest.raises(UsageError, match="holds no tokenizer"):
        catalog.tokenizer("base/demo")
