"""Tasks of shards and of stages: what one failed of is what the run fails of; what else a program reads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from artifacts.errors import DataError
from flows import publish, stage_task
from flows.build import Builder
from flows.dag import Stage, stage_by_id
from flows.result import StageResult

MADE = StageResult(stage="x", status="ran", digest="a" * 64, manifest="b" * 64, seconds=0.5)


class Shard:
    """A future of a shard that is bad."""

    def result(self) -> Any:
        raise DataError("stage tokenize-shard: this shard is bad", "")


def test_a_shard_that_fails_ends_the_run_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    builder: Any = SimpleNamespace(work=lambda *_: "work", find=lambda _: None)
    mapped = SimpleNamespace(map=lambda entries: [Shard() for _ in entries])
    monkeypatch.setattr(stage_task, "shard_task", lambda *_: mapped)
    monkeypatch.setattr(stage_task, "shard_entries", lambda *_: [{"path": "one"}])
    inputs: Any = {"shards": SimpleNamespace(result=lambda: MADE.model_dump())}
    with pytest.raises(DataError, match="this shard is bad"):
        stage_task.shard_tasks(builder, stage_by_id("tokenize"), inputs)


def test_what_a_program_reads_besides_is_not_its_identity(
    make_builder: Callable[..., Builder], first: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_task, "state_of", lambda builder, work, parts: work)
    builder = make_builder(first={})
    without = builder.work(first, {})
    work: Any = stage_task.stage_task(builder, first).fn({}, None, {"a file": MADE.model_dump()})
    assert work.folders == {"a file": MADE}
    assert (work.fingerprint, work.inputs) == (without.fingerprint, {})
    assert stage_task.stage_task(builder, first).fn({}, None, None) == without


def test_a_part_of_a_stage_is_told_in_the_logs_alone(
    make_builder: Callable[..., Builder], first: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Artifacts of two hundred shards would replace each other, and take most of their time."""
    asked: list[str] = []
    for name in ("create_progress_artifact", "create_table_artifact", "create_markdown_artifact"):
        monkeypatch.setattr(publish, name, lambda key, **_: asked.append(key))
    monkeypatch.setattr(publish, "get_run_logger", lambda: logging.Logger("run"))
    builder = make_builder(first={})
    whole = builder.work(first, {})
    stage_task.state_of(builder, replace(whole, name=None))
    assert asked == []
    stage_task.state_of(builder, whole)
    assert [key.rpartition("-")[2] for key in asked] == ["metrics", "lineage"], (
        "no progress: it is built already"
    )
