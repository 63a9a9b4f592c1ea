"""What a sweep says: laws that were measured, and why there is none where there is none."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from nanochat.evals.scaling_law import BRACKETED, TOO_SMALL
from nanochat.report.sweep import (
    Point,
    Sweep,
    budget_table,
    conclusions,
    csv_text,
    findings,
    read_sweep,
    table,
)

SIZES = (20e6, 50e6, 120e6, 300e6, 700e6)


def point(size: float, tokens: float, loss: float, budget: float | None = None) -> Point:
    return Point(
        role=f"{budget:.0e}-{size:.0e}" if budget else f"d{size / 1e7:.0f}", depth=4, budget=budget,
        parameters=round(size), total_parameters=round(3 * size), steps=1000, tokens=round(tokens),
        flops=6 * size * tokens, passes=0.5, val_bpb=loss,
    )  # fmt: skip


def law_points(budgets: tuple[float, ...]) -> list[Point]:
    """Models whose loss is 0.5 + (24 / N)^0.3 + (240 / D)^0.3: ten tokens a parameter are best, always."""

    def loss(size: float, tokens: float) -> float:
        return 0.5 + (24 / size) ** 0.3 + (240 / tokens) ** 0.3

    return [
        point(size, tokens, loss(size, tokens), budget)
        for budget in budgets
        for size in SIZES
        for tokens in [budget / 6 / size]
    ]


@pytest.fixture
def laws() -> Sweep:
    return Sweep.of("scaling-laws", law_points((3e17, 1e18, 3e18)))


@pytest.fixture
def series() -> Sweep:
    """A loss of 40 times FLOPs^-0.1."""
    sizes = (1e7, 2e7, 4e7)
    return Sweep.of("miniseries", [point(n, 12 * n, 40 * (72 * n * n) ** -0.1) for n in sizes])


def test_a_law_is_found_from_bracketed_budgets(laws: Sweep) -> None:
    assert [found.verdict for found in laws.valleys.values()] == [BRACKETED] * 3
    assert laws.laws["parameters"].exponent == pytest.approx(0.5, abs=0.01)
    assert laws.laws["tokens"].exponent == pytest.approx(0.5, abs=0.01)
    assert laws.laws["loss"].exponent < 0
    assert laws.tokens_per_parameter == pytest.approx(10, rel=0.1)


def test_a_budget_that_is_not_bracketed_is_no_part_of_the_law() -> None:
    points = law_points((1e18, 3e18, 1e21))
    sweep = Sweep.of("scaling-laws", points)
    assert [found.verdict for found in sweep.valleys.values()] == [BRACKETED, BRACKETED, TOO_SMALL]
    without = Sweep.of("scaling-laws", [point for point in points if point.budget != 1e21])
    assert sweep.laws == without.laws
    assert sweep.laws["parameters"].high == pytest.approx(3e18)
    assert "1e21 FLOPs: not bracketed: larger models may do better." in findings(sweep)


@pytest.mark.parametrize(("budgets", "said"), [((1e18, 1e21), "there is one"), ((1e21,), "there is none")])
def test_fewer_than_two_budgets_give_no_law(budgets: tuple[float, ...], said: str) -> None:
    sweep = Sweep.of("scaling-laws", law_points(budgets))
    assert sweep.laws == {}
    assert any(sentence.startswith("No power law") and said in sentence for sentence in findings(sweep))
    assert (sweep.tokens_per_parameter is None) == (said == "there is none")


def test_what_was_found_is_said_in_words(laws: Sweep) -> None:
    said = findings(laws)
    assert said[0].startswith("3e17 FLOPs: ")
    assert "parameters are best" in said[0]
    assert any(
        sentence.startswith("The best size grows as FLOPs^0.50 ± 0.00, its tokens as FLOPs^0.50")
        for sentence in said
    )
    assert said[-1].startswith("Best tokens per parameter, geometric mean: ")
    assert conclusions(laws) == said[3:]


def test_a_miniseries_says_which_is_best_and_how_loss_falls(series: Sweep) -> None:
    assert series.laws["loss"].exponent == pytest.approx(-0.1)
    assert findings(series)[0] == f"d4 is best: {series.points[-1].val_bpb:.4f} bits per byte."
    assert findings(series)[1].startswith("Bits per byte go as FLOPs^−0.10 ± 0.00, from 7.2e15 to 1.15e17")
    assert "No power law" in findings(Sweep.of("miniseries", series.points[:1]))[1]


def test_repeated_text_is_said(series: Sweep) -> None:
    points = [series.points[0], replace(series.points[1], passes=3.24), replace(series.points[2], passes=2.0)]
    assert findings(Sweep.of("miniseries", points))[-1].startswith("d2 read its text 3.2 times")
    assert not any("times" in sentence for sentence in findings(series))


def test_the_table_has_a_row_a_model_and_a_column_for_what_all_were_asked(series: Sweep) -> None:
    asked = [replace(point, evaluation={"docs": 0.25, "new": 1.0}) for point in series.points]
    asked[1] = replace(asked[1], evaluation={"docs": 0.5})
    columns, rows = table(Sweep.of("miniseries", asked))
    assert columns[-2:] == ["val_bpb", "docs"]
    assert rows[0][:5] == ["d1", "10.0 M", "120.0 M", "12", "1,000"]
    assert [row[-1] for row in rows] == ["0.25", "0.5", "0.25"]
    assert all(len(row) == len(columns) for row in rows)


def test_the_table_of_budgets_says_why_one_has_no_best_model() -> None:
    columns, rows = budget_table(Sweep.of("scaling-laws", law_points((1e18, 1e21))))
    assert all(len(row) == len(columns) for row in rows)
    assert (rows[0][0], rows[0][-1]) == ("1e18", BRACKETED)
    assert rows[1] == ["1e21", "–", "–", "–", "–", TOO_SMALL]


def test_the_csv_has_every_number_in_full(laws: Sweep) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(laws))))
    assert len(rows) == 15
    assert [float(row["val_bpb"]) for row in rows] == [point.val_bpb for point in laws.points]
    assert [int(row["tokens"]) for row in rows] == [point.tokens for point in laws.points]


@pytest.mark.parametrize("name", ["laws", "series"])
def test_what_was_written_is_read_again(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    sweep = request.getfixturevalue(name)
    (tmp_path / "sweep.json").write_text(json.dumps(sweep.as_json(), allow_nan=False))
    assert read_sweep(tmp_path) == sweep
