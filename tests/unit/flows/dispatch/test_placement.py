"""Where a stage is built, and what the run that asked for it gets to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import DataError, ResourceError
from flows.build import Builder
from flows.dag import GPU, Stage
from flows.dispatch import placement
from flows.observe import Observer
from nanochat.records import read_records

Make = Callable[..., Builder]
GPU_POOL = '{"gpu": {"gpus": 1, "cpus": 8, "memory_gb": 64}}'


class Losses(Observer):
    """Keeps the losses that it was shown."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def ended(self, stage: str, records: Path) -> None:
        self.losses += [record["value"] for record in read_records(records) if record["name"] == "train/loss"]


@pytest.fixture
def on_gpu(first: Stage) -> Stage:
    return dataclasses.replace(first, needs=GPU)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pools of child runs that were asked for; nothing is built by them until ``Elsewhere`` is."""
    pools: list[str] = []
    monkeypatch.setenv("NANOCHAT_POOLS", GPU_POOL)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr(placement, "run_child", lambda pool, job, says: pools.append(pool))
    return pools


def builds(builder: Builder, work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child run of another process, in short."""
    monkeypatch.setattr(placement, "run_child", lambda *_: builder.build(work, Observer()))


def test_the_store_says_what_a_child_run_made(
    make_builder: Make, on_gpu: Stage, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    builder, watching = make_builder(first={}), Losses()
    work = builder.work(on_gpu, {})
    builds(builder, work, monkeypatch)
    made = placement.build(builder, work, watching)
    assert (made.status, made.artifact, made.note) == ("ran", "tokenizer/demo@v1", "")
    assert watching.losses == [3.0, 2.0, 1.0], "the curve is drawn in the run that asked, too"
    assert placement.build(builder, work, watching).status == "cached"


def test_what_was_built_again_by_force_is_compared(
    make_builder: Make, on_gpu: Stage, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = make_builder(first={})
    builder.build(builder.work(on_gpu, {}), Observer())
    forced = make_builder(first={}, forced={"first"})
    work = forced.work(on_gpu, {})
    builds(forced, work, monkeypatch)
    assert placement.build(forced, work, Observer()).note == "identical"


def test_a_child_run_that_used_another_store_is_noticed(
    make_builder: Make, on_gpu: Stage, asked: list[str]
) -> None:
    builder = make_builder(first={})
    with pytest.raises(DataError, match=r"built on the work pool gpu, but .* lacks it"):
        placement.build(builder, builder.work(on_gpu, {}), Observer())
    assert asked == ["gpu"]


def test_what_needs_no_gpu_and_what_is_put_together_is_built_here(
    make_builder: Make, first: Stage, on_gpu: Stage, asked: list[str]
) -> None:
    builder = make_builder(first={})
    part = placement.build(builder, builder.work(first, {}), Observer())
    forced = make_builder(first={}, forced={"first"})
    placement.build(forced, forced.work(on_gpu, {}), Observer(), [part])
    assert asked == []


def test_a_run_with_a_server_of_its_own_is_one_process_tree(
    make_builder: Make, on_gpu: Stage, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    builder = make_builder(first={})
    assert placement.build(builder, builder.work(on_gpu, {}), Observer()).status == "ran"
    assert asked == []


def test_a_stage_that_no_pool_can_hold_is_refused_before_anything_is_built(
    make_builder: Make, first: Stage, on_gpu: Stage, asked: list[str]
) -> None:
    builder = dataclasses.replace(make_builder(first={}), ranks=4)
    training = dataclasses.replace(on_gpu, torchrun=True)
    with pytest.raises(ResourceError, match="no work pool offers what stage first needs: 4 GPUs"):
        placement.check_dispatch(builder, [first, training])
