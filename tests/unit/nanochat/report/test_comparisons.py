"""Has training ended, and is a gain real?"""

from __future__ import annotations

import pytest

from nanochat.report.comparisons import flatness_of, gain_of
from nanochat.report.evidence import Evaluation, Training


def training(*values: float) -> Training:
    return Training(100, 1000, 10, {}, "val_loss", (), tuple(enumerate(values)))


def evaluation(**correct: bool) -> Evaluation:
    return Evaluation((), {"task": correct}, ())


def test_flatness_looks_at_the_last_three_points() -> None:
    flatness = flatness_of(training(9.0, 1.0, 1.04, 1.01))
    assert flatness
    assert flatness.points == ((1, 1.0), (2, 1.04), (3, 1.01))
    assert flatness.spread == pytest.approx(0.04)


def test_two_points_say_nothing() -> None:
    assert flatness_of(training(1.0, 1.0)) is None
    assert flatness_of(None) is None


def test_gain_pairs_problems_by_their_id() -> None:
    before = evaluation(a=True, b=False, c=False, only_before=True)
    after = evaluation(c=True, b=True, a=False, only_after=True)
    gain = gain_of(before, after, "task")
    assert gain
    assert (gain.n, gain.gained, gain.lost) == (3, 2, 1)
    assert (gain.before, gain.after) == (pytest.approx(1 / 3, abs=1e-6), pytest.approx(2 / 3, abs=1e-6))
    assert gain.p_value == 1.0


def test_without_common_problems_there_is_no_gain() -> None:
    assert gain_of(evaluation(a=True), evaluation(b=True), "task") is None
    assert gain_of(evaluation(a=True), evaluation(a=True), "other") is None
    assert gain_of(None, evaluation(a=True), "task") is None
