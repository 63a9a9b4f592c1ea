"""What each shard gives is an artifact of its own: a new shard costs only itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artifacts.fingerprint import recipe, sha256_json
from artifacts.manifest import Draft
from flows.build import Builder
from flows.result import StageResult, result_of
from flows.shard_map import (
    FETCH_STAGE,
    SHARD_STAGE,
    fetch_entries,
    fetch_work,
    shard_entries,
    shard_work,
)
from nanochat.stages.shards import ShardsConfig

Make = Callable[..., Builder]
ENTRIES = [{"path": f"shard_0000{n}.parquet", "sha256": str(n) * 64, "rows": 10 + n} for n in range(3)]


def put(builder: Builder, folder: Path, stage: str, content: Any) -> StageResult:
    """An artifact with one file, manifest.json."""
    payload = recipe(stage, 1, {"content": content}, inputs={}, modules={})
    draft = Draft(stage=stage, kind=stage, fingerprint=sha256_json(payload), recipe=payload)
    output = folder / sha256_json(content)
    output.mkdir()
    (output / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    published = builder.store.commit(draft, output, None, name="demo")
    return result_of(published.manifest, "ran", str(published.ref), seconds=0.0)


@pytest.fixture
def builder(make_builder: Make) -> Builder:
    return make_builder(tokenize={})


@pytest.fixture
def inputs(builder: Builder, tmp_path: Path) -> Callable[..., dict[str, StageResult]]:
    """``inputs(entries, tokenizer="a")``: shards of these entries, and a tokenizer."""

    def make(entries: list[dict[str, Any]], tokenizer: str = "a") -> dict[str, StageResult]:
        return {
            "shards": put(builder, tmp_path, "shards", {"shards": entries}),
            "tokenizer": put(builder, tmp_path, "tokenizer", tokenizer),
        }

    return make


Inputs = Callable[..., dict[str, StageResult]]


def test_the_shards_are_those_of_the_artifact_in_its_order(builder: Builder, inputs: Inputs) -> None:
    backwards = ENTRIES[::-1]
    assert shard_entries(builder, inputs(backwards)) == backwards


def fingerprints(builder: Builder, entries: list[dict[str, Any]], given: dict[str, StageResult]) -> list[str]:
    return [shard_work(builder, entry, given).fingerprint for entry in entries]


def test_a_new_shard_leaves_the_others_as_they_are(builder: Builder, inputs: Inputs, tmp_path: Path) -> None:
    given = inputs(ENTRIES[:2])
    before = fingerprints(builder, ENTRIES[:2], given)
    grown = {**given, "shards": put(builder, tmp_path, "shards", {"shards": ENTRIES})}
    after = fingerprints(builder, ENTRIES, grown)
    assert after[:2] == before
    assert len(set(after)) == 3


def test_another_tokenizer_changes_every_shard(builder: Builder, inputs: Inputs, tmp_path: Path) -> None:
    given = inputs(ENTRIES)
    other = {**given, "tokenizer": put(builder, tmp_path, "tokenizer", "b")}
    before, after = fingerprints(builder, ENTRIES, given), fingerprints(builder, ENTRIES, other)
    assert not set(before) & set(after)


@pytest.mark.parametrize("change", [{"sha256": "f" * 64}, {"rows": 99}])
def test_a_changed_shard_changes_itself_alone(
    change: dict[str, Any], builder: Builder, inputs: Inputs
) -> None:
    given = inputs(ENTRIES)
    changed = [{**ENTRIES[0], **change}, *ENTRIES[1:]]
    before, after = fingerprints(builder, ENTRIES, given), fingerprints(builder, changed, given)
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True]


def test_a_shard_is_tokenised_alone_and_has_no_name(builder: Builder, inputs: Inputs) -> None:
    given = inputs(ENTRIES)
    work = shard_work(builder, ENTRIES[1], given)
    assert (work.stage, work.name) == (SHARD_STAGE, None)
    assert work.config.shards == ["shard_00001.parquet"]
    assert builder.configs["tokenize"].shards == [], "the stage's own config is another one"
    assert set(work.inputs) == {"tokenizer"}, "its parent"
    assert work.folders == given, "what the program gets to read"


def downloads(builder: Builder, monkeypatch: pytest.MonkeyPatch, **config: Any) -> list[Any]:
    """The work of every download that this config of the stage ``shards`` asks for."""
    monkeypatch.delenv("NANOCHAT_DATA_MIRROR", raising=False)
    asked = replace(builder, configs={"shards": ShardsConfig(**config)})
    return [fetch_work(entry) for entry in fetch_entries(asked)]


def test_a_longer_download_begins_with_what_was_fetched_before(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = downloads(builder, monkeypatch, source="hub", num_shards=2)
    longer = downloads(builder, monkeypatch, source="hub", num_shards=3, workers=7)
    other = downloads(builder, monkeypatch, source="hub", num_shards=2, dataset="fineweb-edu")
    before, after = [work.fingerprint for work in short], [work.fingerprint for work in longer]
    assert [*after[:2], after[3]] == before
    assert len(set(after)) == 4
    assert not {work.fingerprint for work in other} & set(after)
    assert downloads(builder, monkeypatch) == []


def test_a_download_needs_nothing_and_has_no_name(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    *_, work = downloads(builder, monkeypatch, source="hub", num_shards=2)
    assert (work.stage, work.name, work.inputs, work.folders) == (FETCH_STAGE, None, {}, {})
    assert work.config.path == "shard_06542.parquet"
