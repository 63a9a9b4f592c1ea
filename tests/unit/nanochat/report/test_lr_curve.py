"""What a range test says: the rates that matter on a loss curve, and the curve as text."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.report.lr_curve import LRCurve, chart, smooth


def curve(noise: float = 0.0, steps: int = 100) -> LRCurve:
    """Falls fastest at 0.1, lowest at 1, explodes above: loss in the logarithm of the rate, 0.001 to 100."""
    decades = np.linspace(-3, 2, steps)
    losses = 4 - 3 / (1 + np.exp(-4 * (decades + 1))) + 2 * np.clip(decades, 0, None) ** 2
    losses += noise * np.random.default_rng(0).standard_normal(steps)
    return LRCurve(tuple(10.0**decades), tuple(map(float, losses)))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_rates_that_matter_are_found(noise: float) -> None:
    found = curve(noise)
    assert math.log10(found.scales[found.steepest]) == pytest.approx(-1, abs=0.35)
    assert math.log10(found.scales[found.lowest]) == pytest.approx(0, abs=0.35)
    assert found.diverged is not None
    assert 1 < found.scales[found.diverged] < 10
    assert found.suggestion == found.scales[found.steepest]


def test_the_suggestion_stays_below_the_lowest_point() -> None:
    """A loss that falls ever faster until it explodes is steepest at the edge."""
    scales = tuple(10.0 ** (i / 10) for i in range(30))
    falling = LRCurve(scales, tuple(10 - (i / 10) ** 3 if i < 25 else 20.0 for i in range(30)))
    assert falling.suggestion == pytest.approx(falling.scales[falling.lowest] / 3)
    assert falling.suggestion < falling.scales[falling.steepest]


def test_a_ramp_that_ends_too_early_has_no_divergence() -> None:
    whole = curve()
    part = LRCurve(whole.scales[:55], whole.losses[:55])
    assert part.diverged is None
    assert part.as_json()["diverged"] is None
    assert "x" not in chart(part)


@given(st.lists(st.floats(0, 30), min_size=5, max_size=200))
def test_any_losses_have_an_answer(losses: list[float]) -> None:
    found = LRCurve(tuple(1.1**i for i in range(len(losses))), tuple(losses))
    said = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert said["suggestion"] <= said["lowest"]
    assert said["diverged"] is None or said["diverged"] >= said["lowest"]
    assert len(chart(found).splitlines()) == 15


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), st.integers(1, 10))
def test_smoothing_keeps_lines_and_stays_within_the_values(values: list[float], width: int) -> None:
    assert smooth([2.0 * i for i in range(30)], width) == pytest.approx([2.0 * i for i in range(30)])
    smoothed = smooth(values, width)
    assert len(smoothed) == len(values)
    assert min(values) - 1e-9 <= min(smoothed) <= max(smoothed) <= max(values) + 1e-9


def test_the_chart_marks_the_rates_below_the_curve() -> None:
    lines = chart(curve()).splitlines()
    marks = lines[-2]
    assert marks.index("*") < marks.index("^") < marks.index("x")
    assert lines[0].split()[0] == f"{max(curve().smoothed):.2f}"
    assert lines[-1].split() == ["0.001", "100"]
