"""A stage that takes too long or hangs is asked to end, and then ended."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import NanochatError
from flows import launch
from flows.launch import Job, StageKilled
from flows.processes.overseer import GRACE_S, Overseer


class Child:
    """Remembers what was done to it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def terminate(self) -> None:
        self.told.append("terminate")

    def kill(self) -> None:
        self.told.append("kill")


class Clock:
    now = 10.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job("base", "tests.unit.flows.fake_program", tmp_path)


def test_one_that_takes_too_long_is_asked_once_and_killed_after_its_grace(job: Job) -> None:
    clock, child = Clock(), Child()
    overseer: Any = Overseer(replace(job, timeout_s=60.0), now=clock)
    for seconds, told in ((60, []), (1, ["terminate"]), (GRACE_S, ["terminate"]), (1, ["terminate", "kill"])):
        clock.now += seconds
        overseer.look(child)
        assert child.told == told
    assert str(overseer.verdict) == "stage base took longer than 60 s and was stopped"


def test_without_a_limit_and_without_heartbeats_it_may_take_for_ever(job: Job) -> None:
    clock, child = Clock(), Child()
    overseer: Any = Overseer(job, now=clock)
    clock.now += 1e9
    overseer.look(child)
    assert (child.told, overseer.verdict) == ([], None)


def run(job: Job, **config: Any) -> None:
    content = {
        "schema": 1, "stage": "fake", "config": config, "inputs": {},
        "output": str(job.attempt / "output"), "attempt": str(job.attempt),
    }  # fmt: skip
    (job.attempt / "job.json").write_text(json.dumps(content))
    launch.run(job, log=lambda text, urgent: None, tick=lambda: None)


def test_a_rank_that_hangs_is_named_with_its_step_and_shows_where(job: Job) -> None:
    hanging = replace(job, torchrun=True, hang_s=2.0)
    with pytest.raises(
        StageKilled, match=r"base hangs: for \d+ s no sign of rank 0 at step 3 \(its log says"
    ):
        run(hanging, ending="stops beating")
    assert "fake_program.py" in job.log.read_text()


def test_a_stage_that_only_sleeps_is_left_alone(job: Job) -> None:
    run(replace(job, hang_s=0.01), ending="sleeps")


def test_the_limit_is_told_for_a_stage_that_ends_by_itself_when_asked(job: Job) -> None:
    with pytest.raises(NanochatError, match="longer than 1 s"):
        run(replace(job, timeout_s=1.0), ending="hangs")
