"""Each target can be met, missed, and not measured."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from nanochat.report.comparisons import Flatness, Gain
from nanochat.report.evidence import Evaluation, Metric
from nanochat.report.targets import judge

FLAT = Flatness("val_loss", ((0, 1.0), (1, 1.0), (2, 1.0)), 0.01)
GAIN = Gain("arithmetic/hard", 500, 0.5, 0.6, 80, 30, 1e-5)


def evaluations(**changes: float) -> Mapping[str, Evaluation]:
    """Everything met, apart from what ``changes`` says: metric names with __ for what separates them."""
    values = {
        "base__val_bpb": 1.9,
        "easy": 0.7,
        "easy_n": 500,
        "hard": 0.5,
        "named": 0.85,
        "f1_low": 0.3,
    } | changes
    return {
        "base": Evaluation(
            (Metric("val_bpb", "", values["base__val_bpb"], 9, None, None),
             Metric("token_f1", "docs", 0.1, 200, 0.05, 0.2)), {}, ()),
        "sft": Evaluation(
            (Metric("accuracy", "arithmetic/easy", values["easy"], int(values["easy_n"]), 0.6, 0.8),
             Metric("accuracy", "arithmetic/hard", values["hard"], 500, 0.4, 0.6),
             Metric("named", "docs", values["named"], 200, 0.8, 0.9),
             Metric("token_f1", "docs", 0.4, 200, values["f1_low"], 0.5)), {}, ()),
    }  # fmt: skip


def verdicts(
    evaluations: Mapping[str, Evaluation], flatness: Flatness | None, gain: Gain | None
) -> list[bool | None]:
    return [target.met for target in judge(evaluations, flatness, gain)]


def test_everything_met() -> None:
    assert verdicts(evaluations(), FLAT, GAIN) == [True] * 7


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (0, {"base__val_bpb": 2.0}), (1, {"easy": 0.59}), (1, {"easy_n": 499}), (3, {"hard": 0.19}),
        (3, {"hard": 0.81}), (5, {"named": 0.79}), (6, {"f1_low": 0.2}),
    ],
)  # fmt: skip
def test_one_missed(number: int, changes: dict[str, float]) -> None:
    assert verdicts(evaluations(**changes), FLAT, GAIN) == [place != number for place in range(7)]


@pytest.mark.parametrize(
    "gain",
    [Gain("t", 500, 0.5, 0.6, 80, 30, 0.01), Gain("t", 500, 0.6, 0.5, 30, 80, 1e-5)],
    ids=["p", "loss"],
)
def test_a_gain_must_be_upward_and_beyond_chance(gain: Gain) -> None:
    assert verdicts(evaluations(), FLAT, gain)[4] is False


def test_a_moving_curve_is_not_flat() -> None:
    assert verdicts(evaluations(), Flatness("val_loss", (), 0.021), GAIN)[2] is False


def test_what_was_not_measured_is_not_met() -> None:
    targets = judge({}, None, None)
    assert [target.met for target in targets] == [None] * 7
    assert {target.measured for target in targets} == {"not measured"}
