"""Needs against offers."""

from __future__ import annotations

import pytest

from artifacts.errors import ResourceError
from flows.dag import STAGES, stage_by_id
from flows.dispatch.pools import Offer, needs_of, pool_for

SMALL, BIG = Offer(gpus=1, cpus=8, memory_gb=64), Offer(gpus=8, cpus=64, memory_gb=512)


def test_what_trains_or_evaluates_needs_a_gpu_for_each_rank() -> None:
    wanted = {stage.id: needs_of(stage, 8).gpus for stage in STAGES}
    assert wanted["base"] == wanted["mid"] == wanted["sft"] == wanted["rl"] == 8
    assert wanted["eval-rl"] == 1, "an evaluation is one process"
    assert wanted["shards"] == wanted["tokenizer"] == wanted["tokenize"] == wanted["report"] == 0


@pytest.mark.parametrize(("ranks", "pool"), [(1, "small"), (2, "big"), (8, "big")])
def test_the_smallest_pool_that_is_big_enough(ranks: int, pool: str) -> None:
    assert pool_for(stage_by_id("base"), ranks, {"big": BIG, "small": SMALL}) == pool


@pytest.mark.parametrize("short", ["gpus", "cpus", "memory_gb"])
def test_a_pool_must_have_enough_of_everything(short: str) -> None:
    offer = BIG.model_copy(update={short: 1})
    with pytest.raises(ResourceError, match=r"stage base needs: 8 GPUs, .*NANOCHAT_POOLS has big: "):
        pool_for(stage_by_id("base"), 8, {"big": offer})


def test_a_stage_without_gpus_and_a_run_without_pools_stay_where_they_are() -> None:
    assert pool_for(stage_by_id("tokenizer"), 8, {"big": BIG}) is None
    assert pool_for(stage_by_id("base"), 8, {}) is None
