"""A stage by refs: what arrives is what was sent, or it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifacts.errors import UsageError
from artifacts.store import Store
from flows.build import Builder
from flows.dag import stage_by_id
from flows.dispatch.stage_job import StageJob
from flows.result import StageResult
from flows.settings import Settings
from nanochat.config.pipeline import Resolution

ORIGIN = {"flow_run": "here"}


@pytest.fixture
def job(home: Path, monkeypatch: pytest.MonkeyPatch) -> StageJob:
    monkeypatch.setenv("NANOCHAT_POOLS", '{"gpu": {"gpus": 1, "cpus": 2, "memory_gb": 8}}')
    configs = Resolution("tiny", {"base.seed": 3}).stages
    builder = Builder(
        Store.open(), Settings(), configs, "mine", 2, True, 4, frozenset({"base"}), origin=ORIGIN
    )
    made = StageResult(stage="x", status="ran", digest="a" * 64, manifest="b" * 64, seconds=0.5)
    work = builder.work(stage_by_id("base"), {"tokens": made, "tokenizer": made})
    return StageJob.of(builder, work, "parent")


def test_it_crosses_as_json_and_means_the_same_work(job: StageJob) -> None:
    arrived = StageJob(**json.loads(job.model_dump_json()))
    assert arrived == job
    builder, work = arrived.opened()
    assert work.fingerprint == job.fingerprint
    assert (work.name, work.config.seed, work.inputs) == ("mine", 3, job.inputs)  # type: ignore[attr-defined]
    assert (builder.name, builder.ranks, builder.overlap, builder.depth) == ("mine", 2, True, 4)
    assert (builder.forced, builder.origin) == ({"base"}, ORIGIN)


def test_who_builds_it_sends_it_nowhere_else(job: StageJob) -> None:
    assert job.opened()[0].settings.pools == {}


def test_other_code_is_refused(job: StageJob) -> None:
    other = job.model_copy(update={"fingerprint": "c" * 64})
    with pytest.raises(UsageError, match=r"has fingerprint .* here and cccccccccccc where.*same commit"):
        other.opened()
