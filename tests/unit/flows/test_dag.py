"""The DAG is in order, whole, and says which word was wrong."""

from __future__ import annotations

from importlib.util import find_spec
from typing import get_args

import pytest

from artifacts.errors import UsageError
from flows.dag import GROUPS, STAGE_IDS, STAGES, Stage, expand, stage_by_id, until
from flows.params import StageId, build_params


def test_a_stage_reads_only_what_stages_before_it_made() -> None:
    before: set[str] = set()
    for stage in STAGES:
        assert set(stage.inputs.values()) <= before, stage.id
        before.add(stage.id)


def test_ids_and_artifacts_are_unique() -> None:
    assert len(set(STAGE_IDS)) == len(STAGES)
    assert len({stage.artifact("demo") for stage in STAGES}) == len(STAGES)


def test_the_form_in_the_ui_offers_exactly_the_stages() -> None:
    assert get_args(StageId) == STAGE_IDS


@pytest.mark.parametrize("stage", STAGES, ids=STAGE_IDS)
def test_every_program_is_a_module_that_exists(stage: Stage) -> None:
    assert find_spec(stage.module) is not None


def test_the_report_reads_every_other_stage() -> None:
    assert set(stage_by_id("report").inputs.values()) == set(STAGE_IDS) - {"report"}


def test_training_runs_under_torchrun_and_nothing_else_does() -> None:
    assert [stage.id for stage in STAGES if stage.torchrun] == ["base", "mid", "sft", "rl"]


def test_an_evaluation_is_named_after_the_model_that_it_judges() -> None:
    assert stage_by_id("eval-sft").artifact("demo") == "eval/demo-sft"
    assert stage_by_id("sft").artifact("demo") == "sft/demo"


def test_until_includes_its_stage_and_what_comes_before() -> None:
    assert [stage.id for stage in until("base")] == ["shards", "tokenizer", "tokenize", "base"]
    assert until(None) == STAGES


def test_evaluate_stands_for_all_evaluations_and_tokenize_for_its_shards_too() -> None:
    assert expand(["evaluate", "rl"]) == {"eval-base", "eval-mid", "eval-sft", "eval-rl", "rl"}
    assert expand(["tokenize"]) == set(GROUPS["tokenize"]) == {"tokenize", "tokenize-shard"}
    assert expand(["shards"]) == set(GROUPS["shards"]) == {"shards", "fetch-shard"}
    assert expand([]) == set()


@pytest.mark.parametrize("part", ["fetch-shard", "tokenize-shard"])
def test_the_stage_that_the_error_of_a_damaged_part_names_can_be_forced(part: str) -> None:
    assert expand([part]) == {part}
    assert build_params("tiny", overrides=[], force=[part]).forced == {part}


@pytest.mark.parametrize(
    ("wrong", "meant"), [("tokeniser", "tokenizer"), ("eval-sf", "eval-sft"), ("report1", "report")]
)
def test_a_misspelt_stage_is_named_with_the_nearest(wrong: str, meant: str) -> None:
    for ask in (stage_by_id, until, lambda word: expand([word])):
        with pytest.raises(UsageError, match=f"'{wrong}'.*did you mean {meant}"):
            ask(wrong)


def test_evaluate_is_no_stage_to_stop_at() -> None:
    with pytest.raises(UsageError, match="unknown stage 'evaluate'"):
        until("evaluate")
