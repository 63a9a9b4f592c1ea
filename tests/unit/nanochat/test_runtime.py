"""Which of the stage's processes this is, and what it may resume."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanochat.config.base import Config, runtime_field
from nanochat.runtime import Job, StageContext, Summary, _context, stage_main


@pytest.mark.parametrize(
    ("environment", "rank", "world_size"),
    [
        ({}, 0, 1),
        ({"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "8"}, 3, 8),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "NANOCHAT_FIRST_RANK": "2"}, 2, 4),
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "NANOCHAT_FIRST_RANK": "0"}, 1, 4),
    ],
    ids=["alone", "one node", "node 1, first by address", "node 0, last by address"],
)
def test_the_first_ranks_are_those_of_the_node_that_has_the_attempt(
    environment: dict[str, str], rank: int, world_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NANOCHAT_FIRST_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    job = Job(stage="base", config={}, inputs={}, output=str(tmp_path / "o"), attempt=str(tmp_path / "a"))
    context = _context(job, seed=5)
    assert (context.rank, context.world_size, context.is_main) == (rank, world_size, rank == 0)


class Inner(Config):
    """A nested one."""

    rate: float = 0.5
    betas: tuple[float, float] = (0.8, 0.9)


class Outer(Config):
    """Identity fields at two levels and one that is none."""

    steps: int = 3
    inner: Inner = Inner()
    log_every: int = runtime_field(10)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """``stage({"steps": 4}, saves=True)``: exit code of a stage with this config that leaves a checkpoint."""
    threshold = gc.get_threshold()

    def start(config: dict[str, Any], saves: bool = True) -> int:
        def run(ctx: StageContext, _: Config) -> Summary:
            if saves:
                (ctx.attempt / "checkpoints" / "step-00000001").mkdir(parents=True, exist_ok=True)
            return Summary()

        job = {"schema": 1, "stage": "base", "config": config, "inputs": {}}
        job |= {"output": str(tmp_path / "output"), "attempt": str(tmp_path / "attempt")}
        (tmp_path / "job.json").write_text(json.dumps(job))
        monkeypatch.setattr("sys.argv", ["base", "--job", str(tmp_path / "job.json")])
        try:
            stage_main("base", Outer, run)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    yield start
    gc.set_threshold(*threshold)


@pytest.mark.criterion("T09")
def test_checkpoints_of_another_configuration_are_refused_field_by_field(stage, capsys) -> None:
    assert stage({}) == 0
    assert stage({"log_every": 1}) == 0
    assert stage({"steps": 4, "inner": {"rate": 0.25}}) == 3
    said = capsys.readouterr().err
    assert "inner.rate was 0.5, is 0.25; steps was 3, is 4" in said
    assert "log_every" not in said
    assert stage({}) == 0  # nothing was changed by the attempt


def test_without_checkpoints_another_configuration_may_begin(stage) -> None:
    assert stage({}, saves=False) == 0
    assert stage({"steps": 4}) == 0
    assert stage({}) == 3
