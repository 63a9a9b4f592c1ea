"""Charts: where points lie, what is said, and nothing that a strict policy forbids."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from nanochat.serve.line_chart import MOST_POINTS, Line, line_chart, ticks


def drawn(*lines: Line, **options: object) -> str:
    return str(line_chart("base", lines, **{"x_label": "step", "y_label": "loss", **options}))


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (1.87, 1.95, [1.88, 1.9, 1.92, 1.94]), (0, 330, [0, 100, 200, 300])],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(wanted)


def test_a_line_goes_from_corner_to_corner() -> None:
    text = drawn(Line("loss", [(0, 0.0), (10, 1.0)]), y_range=(0, 1))
    assert 'd="M62.0,210.0 L448.0,12.0"' in text
    assert 'aria-label="base: loss from 0 at 0 to 1 at 10"' in text


def test_it_is_xml_without_style_or_script() -> None:
    text = drawn(Line('<script>"', [(0, 1.0), (1, 2.0)], [(0.5, 1.5), None]), x_names=["<b>", "&"])
    ElementTree.fromstring(text)
    assert not re.search(r"style=|<script|<b>| on\w+=", text)


def test_each_interval_is_a_whisker() -> None:
    text = drawn(Line("share", [(0, 0.5), (1, 0.6)], [(0.4, 0.6), None]), y_range=(0, 1))
    assert text.count('class="whisker"') == 1
    assert 'd="M62.0,130.8 V91.2"' in text


@pytest.mark.parametrize("points", [[(3, 2.0)], [(0, 0.0), (1, 0.0)], [(0, 1e9), (1, 2e9)]])
def test_any_points_can_be_drawn(points: list[tuple[float, float]]) -> None:
    text = drawn(Line("x", points))
    assert "nan" not in text
    assert "inf" not in text


def test_what_is_no_finite_number_is_left_out() -> None:
    nan, inf = float("nan"), float("inf")
    points = [(0, nan), (1, 2.0), (2, inf), (3, -1e308), (4, 1e308), (5, 3.0)]
    text = drawn(Line("x", points, [(0, 1), (1, 3), (0, 1), (0, 1), (0, 1), (nan, 4)]), Line("y", [(0, nan)]))
    assert 'aria-label="base: x from 2 at 1 to 3 at 5"' in text
    assert text.count('class="whisker"') == 1
    assert "No finite number" in drawn(Line("x", [(0, nan)]))
    assert "No finite number" in drawn()


def test_many_points_are_thinned_but_not_the_last() -> None:
    text = drawn(Line("x", [(step, float(step)) for step in range(10_001)]))
    path = re.search(r'<g class="line l0"><path d="([^"]*)"', text)
    assert path
    assert path[1].count("L") <= MOST_POINTS
    assert "to 1e+04 at 10000" in text
    assert path[1].endswith("448.0,19.3")
