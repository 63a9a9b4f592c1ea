"""What counts as worse, against which night."""

from __future__ import annotations

import pytest

from artifacts.ref import ArtifactRef
from flows.picture import trend_markdown
from flows.trend import Night, regressions
from nanochat.report.evidence import Evaluation, Metric


def night(number: int, solved: int, *, of: int = 100, bpb: float | None = None, first: int = 0) -> Night:
    """A night on which the first ``solved`` of the problems were solved."""
    correct = {str(first + problem): problem < solved for problem in range(of)}
    metrics = [
        Metric("accuracy", "easy", solved / of, of, max(0, solved / of - 0.1), min(1, solved / of + 0.1))
    ]
    metrics += [Metric("val_bpb", "", bpb, 10, None, None)] if bpb is not None else []
    ref = ArtifactRef("eval", "demo-rl-prod", version=number)
    return Night(
        f"2026-11-{number:02d}T03:00:00+00:00",
        ref,
        "rl/demo",
        Evaluation(tuple(metrics), {"easy": correct}, ()),
    )


@pytest.mark.parametrize(
    ("solved", "since"),
    [
        ((90,), None),  # nothing to compare with
        ((90, 88), None),  # chance explains it
        ((60, 90), None),  # better
        ((90, 60), "v1"),  # worse than the night before
        ((90, 85, 81, 77), "v1"),  # slowly: no night is much worse than the one before
        ((90, 60, 60), "v1"),  # still
        ((90, 60, 90), None),  # mended
    ],
)
def test_a_task_is_worse_if_chance_does_not_explain_it(solved: tuple[int, ...], since: str | None) -> None:
    history = [night(number, count) for number, count in enumerate(solved, 1)]
    found = regressions(history, bpb_tolerance=0.01)
    assert [f"v{item.since.version}" for item in found] == ([since] if since else [])
    for item in found:
        assert (item.before, item.after) == (solved[0] / 100, solved[-1] / 100)
        assert item.p_value is not None
        assert item.p_value < 0.05


def test_other_problems_are_not_compared() -> None:
    assert regressions([night(1, 90), night(2, 10, first=1000)], bpb_tolerance=0.01) == []


@pytest.mark.parametrize(("now", "is_worse"), [(1.79, False), (1.809, False), (1.82, True)])
def test_bits_per_byte_may_rise_by_the_tolerance(now: float, is_worse: bool) -> None:
    found = regressions(
        [night(1, 50, bpb=1.8), night(2, 50, bpb=1.9), night(3, 50, bpb=now)], bpb_tolerance=0.01
    )
    assert [(item.task, item.before, item.after, item.p_value) for item in found] == (
        [("val_bpb", 1.8, now, None)] if is_worse else []
    )


def test_a_regression_reads_as_one_line() -> None:
    (found,) = regressions([night(1, 90), night(2, 60)], bpb_tolerance=0.01)
    assert str(found).startswith("easy: 0.9 → 0.6 since eval/demo-rl-prod@v1, p = ")


def test_the_picture_shows_every_night_with_its_interval() -> None:
    text = trend_markdown([night(1, 90), night(2, 60)], "rl/demo@prod")
    assert text is not None
    assert text.startswith("![rl/demo@prod](data:image/png;base64,")
    assert len(text) > 5000
    assert trend_markdown([], "rl/demo@prod") is None
