"""Tasks of shards and of stages: what one failed of is what the run fails of; what else a program reads."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from artifacts.errors import DataError
from flows import stage_task
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
