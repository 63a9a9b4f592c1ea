"""In which order the flow submits stages, and when it waits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import pipeline as module
from flows.dag import STAGE_IDS
from flows.params import PipelineParams


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch, home: Path) -> list[str]:
    """What the flow's function did: "base" for a stage submitted, "-base" for one waited for."""
    events: list[str] = []

    def task(builder: object, stage: Any) -> Any:
        def submit(inputs: dict[str, Any], parts: object, fetched: object) -> Any:
            assert {role: future.stage for role, future in inputs.items()} == stage.inputs
            events.append(stage.id)
            return SimpleNamespace(stage=stage.id, result=lambda: events.append(f"-{stage.id}"))

        return SimpleNamespace(submit=submit)

    monkeypatch.setattr(module, "stage_task", task)
    monkeypatch.setattr(module, "shard_tasks", lambda *_: None)
    monkeypatch.setattr(module, "results_of", lambda made: [])
    monkeypatch.setattr(module, "publish_run", lambda *_: None)
    return events


def test_stages_run_one_after_the_other(events: list[str]) -> None:
    module.pipeline.fn(PipelineParams(preset="demo"))
    assert events == [event for stage in STAGE_IDS for event in (stage, f"-{stage}")]


def test_with_overlap_they_wait_for_their_inputs_only(events: list[str]) -> None:
    module.pipeline.fn(PipelineParams(preset="demo", set={"overlap": True}))
    assert events == list(STAGE_IDS)
