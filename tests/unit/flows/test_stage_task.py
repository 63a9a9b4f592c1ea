"""Tasks of shards: what one of them failed of is what the run fails of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from artifacts.errors import DataError
from flows import stage_task
from flows.dag import stage_by_id
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
