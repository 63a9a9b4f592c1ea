"""Which models a sweep trains, and what it refuses before anything is spent."""

from __future__ import annotations

from typing import Any

import pytest

from artifacts.errors import UsageError
from flows.sweep.params import MIN_STEPS, SweepParams, budget_text, build_sweep_params, points_of
from nanochat.config.derive import scaling_parameters

TINY = {"preset": "tiny", "depths": [2, 3, 4]}
LAWS = {**TINY, "kind": "scaling-laws", "flops_budgets": [2e10, 1e10]}


def points(**values: Any) -> list[Any]:
    return points_of(build_sweep_params(**values))


def test_a_miniseries_follows_the_one_dial() -> None:
    """Steps and batches of the published table: ratio 12, vocabulary 32,768."""
    made = {point.role: point for point in points(preset="miniseries", depths=[12, 16, 20, 24, 26])}
    assert {role: point.base.steps for role, point in made.items()} == {
        "d12": 2520, "d16": 5376, "d20": 4980, "d24": 8352, "d26": 10_510,
    }  # fmt: skip
    for point in made.values():
        tokens = point.base.steps * point.base.batch_tokens
        assert tokens / scaling_parameters(point.base.model) == pytest.approx(12, rel=1e-3)


def test_the_presets_own_length_does_not_count() -> None:
    (point,) = points(preset="tiny", depths=[2], set={"tokens_per_parameter": 0.5})
    assert point.base.steps == round(0.5 * 40_960 / 512)


def test_a_budget_is_met_whatever_the_depth() -> None:
    made = points(**LAWS)
    assert [point.role for point in made] == [f"{b}-d{d}" for b in ("1e10", "2e10") for d in (2, 3, 4)]
    for point in made:
        assert point.flops == pytest.approx(point.budget, rel=0.5 / MIN_STEPS)
    steps = [point.base.steps for point in made]
    assert steps[:3] == sorted(steps[:3], reverse=True), "a larger model gets fewer steps"


def test_what_differs_between_points_is_the_model_and_its_length() -> None:
    small, large = (point.resolution.stages for point in points(preset="demo", depths=[2, 6]))
    assert {stage for stage in small if small[stage] != large[stage]} == {"base"}
    changed = {field for field, value in large["base"] if value != getattr(small["base"], field)}
    assert changed == {"model", "steps", "eval_every"}


def test_all_are_measured_on_the_same_text() -> None:
    made = points(preset="miniseries", depths=[12, 24])
    alone = [points(preset="miniseries", depths=[depth])[0].base.val_tokens for depth in (12, 24)]
    assert alone[0] < alone[1]
    assert {point.base.val_tokens for point in made} == {alone[1]}


def test_what_was_set_by_name_holds_for_every_point() -> None:
    made = points(**TINY, set={"base.val_tokens": 512, "base.optim.lr_scale": 0.1, "base.eval_every": 7})
    assert {(p.base.val_tokens, p.base.optim.lr_scale, p.base.eval_every) for p in made} == {(512, 0.1, 7)}


def test_data_and_tokenizer_are_those_of_the_pipeline() -> None:
    params = SweepParams(**TINY, name="series", store="somewhere", set={"vocab_size": 1024})
    shared = params.pipeline()
    assert (shared.run_name, shared.store, shared.preset) == ("series", "somewhere", "tiny")
    assert shared.set == {"vocab_size": 1024, "depth": 2}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"depths": []}, "depths"),
        ({"depths": [0]}, "depths.0 = 0: Input should be greater than or equal to 1"),
        ({"depths": [129]}, "depths.0 = 129"),
        ({"depths": [2, 3, 2]}, "2 is given twice"),
        ({"depths": [1]}, "depth 1: width 16 is less than 24"),
        ({"kind": "sweeping"}, "kind = 'sweeping'"),
        ({"flops_budgets": [1e10]}, "FLOPs budgets belong to scaling-laws"),
        ({"kind": "scaling-laws"}, "scaling-laws needs FLOPs budgets, for example 1e18"),
        ({**LAWS, "depths": [2, 3]}, "scaling-laws needs 3 depths or more"),
        ({**LAWS, "flops_budgets": [0.0]}, "flops_budgets.0 = 0.0"),
        ({**LAWS, "flops_budgets": [float("inf")]}, "flops_budgets.0 = inf"),
        ({**LAWS, "flops_budgets": [1e10, 10_000_000_001.0]}, "1e10 is given twice"),
        (
            {**LAWS, "flops_budgets": [1e6]},
            "FLOPs 1e6: 0 steps for depth 2, and 10 are needed (give it 1.8e9",
        ),
        ({**LAWS, "flops_budgets": [5e9]}, "FLOPs 5e9: 6 steps for depth 4"),
        ({"set": {"tokens_per_parameter": 0.01}}, "tokens_per_parameter 0.01: 1 steps for depth 2"),
        ({"set": {"depth": 4}}, "--set depth: a sweep sets that itself (use --depths)"),
        ({"set": {"base.steps": 4}}, "--set base.steps: a sweep sets that itself"),
        ({"set": {"base.stepz": 4}}, "did you mean base.steps"),
        ({"preset": "tyny"}, "unknown preset 'tyny'"),
        ({"name": "A b"}, "name 'A b-d2' is not allowed"),
        ({"name": "x" * 63}, "is not allowed"),
        ({"store": "s3://key:secret@host/bucket"}, "carries no credentials"),
        ({"at_once": 0}, "at_once = 0"),
        ({"speed": 9}, "speed = 9"),
    ],
)
def test_a_wrong_value_is_one_clear_line(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        points(**{**TINY, **wrong})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_hint_says_how_much_is_enough() -> None:
    with pytest.raises(UsageError) as caught:
        points(**TINY, set={"tokens_per_parameter": 0.01})
    enough = float(caught.value.hint.split()[2])
    (point,) = points(preset="tiny", depths=[2], set={"tokens_per_parameter": enough})
    assert MIN_STEPS <= point.base.steps <= 1.1 * MIN_STEPS


def test_the_form_says_what_every_field_is() -> None:
    fields = SweepParams.model_json_schema()["properties"]
    assert set(fields) == set(SweepParams.model_fields)
    assert all(field["title"] and field["description"].endswith(".") for field in fields.values())
    assert {"tiny", "miniseries"} <= set(fields["preset"]["enum"])
    assert fields["kind"]["enum"] == ["miniseries", "scaling-laws"]
    assert fields["depths"]["items"] == {"type": "integer", "minimum": 1, "maximum": 128}


@pytest.mark.parametrize(
    ("budget", "text"), [(1e18, "1e18"), (2.15e18, "2.15e18"), (5e9, "5e9"), (123456.0, "123456")]
)
def test_budgets_read_as_people_write_them(budget: float, text: str) -> None:
    assert budget_text(budget) == text
