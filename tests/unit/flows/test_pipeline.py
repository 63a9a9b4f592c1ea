"""The order in which the flow submits stages, and what each waits for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import pipeline as module
from flows.dag import STAGE_IDS
from flows.params import PipelineParams


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch, home: Path) -> dict[str, list[str]]:
    """Stage -> what it was told to wait for beside its inputs, filled when the flow's function runs."""
    waits: dict[str, list[str]] = {}

    def task(builder: object, stage: Any) -> Any:
        def submit(inputs: dict[str, str], parts: object, wait_for: list[str]) -> str:
            assert inputs == stage.inputs
            waits[stage.id] = wait_for
            return str(stage.id)

        return SimpleNamespace(submit=submit)

    monkeypatch.setattr(module, "stage_task", task)
    monkeypatch.setattr(module, "shard_tasks", lambda *_: None)
    monkeypatch.setattr(module, "results_of", lambda made: [])
    monkeypatch.setattr(module, "publish_run", lambda *_: None)
    return waits


def test_stages_run_one_after_the_other(submitted: dict[str, list[str]]) -> None:
    module.pipeline.fn(PipelineParams(preset="demo"))
    assert list(submitted) == list(STAGE_IDS)
    assert list(submitted.values()) == [[], *([stage] for stage in STAGE_IDS[:-1])]


def test_with_overlap_they_wait_for_their_inputs_only(submitted: dict[str, list[str]]) -> None:
    module.pipeline.fn(PipelineParams(preset="demo", set={"overlap": True}))
    assert list(submitted) == list(STAGE_IDS)
    assert set(map(tuple, submitted.values())) == {()}
