"""What was run is on disk after every stage, without secrets, the newest first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.history import History, last_runs
from flows.params import PipelineParams
from flows.result import StageResult


def result(stage: str) -> StageResult:
    return StageResult(
        stage=stage, status="ran", artifact=f"{stage}/demo@v1", digest="0" * 64, manifest="1" * 64,
        seconds=1.5, metrics={"loss": 2.0}, note="not kept",
    )  # fmt: skip


def test_the_file_is_there_after_each_stage(tmp_path: Path) -> None:
    history = History(tmp_path / "runs", PipelineParams(preset="tiny", name="mine", set={"depth": 2}))
    assert last_runs(tmp_path / "runs") == []
    history.finished(result("shards"))
    (run,) = last_runs(tmp_path / "runs")
    assert [stage["stage"] for stage in run["stages"]] == ["shards"]
    history.finished(result("base"))
    (run,) = last_runs(tmp_path / "runs")
    assert run["name"] == "mine"
    assert run["params"]["set"] == {"depth": 2}
    assert run["stages"][1] == {
        "stage": "base", "status": "ran", "artifact": "base/demo@v1", "digest": "0" * 64,
        "seconds": 1.5, "metrics": {"loss": 2.0},
    }  # fmt: skip


def test_the_newest_run_comes_first_and_none_is_overwritten(tmp_path: Path) -> None:
    for name in ("zebra", "ant", "middle", "middle"):
        History(tmp_path, PipelineParams(name=name)).finished(result("shards"))
    assert [run["name"] for run in last_runs(tmp_path)] == ["middle", "middle", "ant", "zebra"]


@pytest.mark.criterion("T90")
def test_a_secret_among_the_parameters_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "canary-5f2a9c77")
    params = PipelineParams(set={"shards.url": "https://example.org/canary-5f2a9c77", "shards.token": "abc"})
    History(tmp_path, params).finished(result("shards"))
    (path,) = tmp_path.iterdir()
    kept = json.loads(path.read_text(encoding="utf-8"))["params"]["set"]
    assert "canary" not in path.read_text(encoding="utf-8")
    assert kept["shards.token"] == "[redacted]"


def test_before_the_first_run_there_are_none(tmp_path: Path) -> None:
    assert last_runs(tmp_path / "absent") == []
