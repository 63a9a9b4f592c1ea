from __future__ import annotations

from collections.abc import Callable

import pytest

from artifacts.lineage import descendants, graph
from artifacts.store import Store


@pytest.fixture
def family(make, parent_of: Callable) -> dict:
    """shards -> tokenizer; shards and tokenizer -> base -> report."""
    shards = make.commit({"s": b"s"}, stage="shards")
    tokenizer = make.commit({"t": b"t"}, stage="tokenizer", parents=(parent_of(shards, "shards"),))
    both = (parent_of(shards, "shards"), parent_of(tokenizer, "tokenizer"))
    base = make.commit({"b": b"b"}, stage="base", parents=both)
    report = make.commit({"r": b"r"}, stage="report", parents=(parent_of(base, "base"),))
    return {"shards": shards, "tokenizer": tokenizer, "base": base, "report": report}


def edges(found: dict) -> set[tuple[str, str, str]]:
    return {(edge["parent"], edge["child"], edge["role"]) for edge in found["edges"]}


ALL_EDGES = {
    ("shards/demo@v1", "tokenizer/demo@v1", "shards"), ("shards/demo@v1", "base/demo@v1", "shards"),
    ("tokenizer/demo@v1", "base/demo@v1", "tokenizer"), ("base/demo@v1", "report/demo@v1", "base"),
}  # fmt: skip


def test_the_walk_from_a_report_reaches_everything(family: dict, store: Store) -> None:
    found = graph(store, "report/demo")
    assert found["root"] == found["nodes"][0]["ref"] == "report/demo@v1"
    assert {node["ref"] for node in found["nodes"]} == {f"{stage}/demo@v1" for stage in family}
    assert len(found["nodes"]) == 4
    assert edges(found) == ALL_EDGES
    for node in found["nodes"]:
        assert node.keys() == {"ref", "kind", "digest", "stage", "config", "provenance"}
        assert node["provenance"].keys() >= {"commit", "dirty", "command", "versions", "hardware"}
        assert node["config"] == {"depth": 4}


def test_the_walk_forward_reaches_what_was_made_from_it(family: dict, store: Store) -> None:
    assert edges(descendants(store, "shards/demo")) == ALL_EDGES
    assert edges(descendants(store, "base/demo")) == {("base/demo@v1", "report/demo@v1", "base")}
    assert descendants(store, "report/demo")["edges"] == []
