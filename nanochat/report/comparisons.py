"""Two questions that a single number does not answer: has training ended, and is a gain real?"""

from __future__ import annotations

from dataclasses import dataclass

from nanochat.evals.statistics import mcnemar
from nanochat.report.evidence import Evaluation, Points, Training

LAST_POINTS = 3


@dataclass(frozen=True)
class Flatness:
    """The last validation points of a curve: ``spread`` is (largest - smallest) / smallest."""

    metric: str
    points: Points
    spread: float


@dataclass(frozen=True)
class Gain:
    """One model against another on the same ``n`` problems; exact two-sided McNemar ``p_value``."""

    task: str
    n: int
    before: float
    after: float
    gained: int
    lost: int
    p_value: float


def flatness_of(training: Training | None) -> Flatness | None:
    """How much the last three validation points still move, or None with fewer points."""
    if training is None or len(training.val) < LAST_POINTS:
        return None
    points = training.val[-LAST_POINTS:]
    low, high = min(value for _, value in points), max(value for _, value in points)
    spread = (high - low) / low if low > 0 else float(high > low)
    return Flatness(training.val_metric, points, round(spread, 6))


def gain_of(before: Evaluation | None, after: Evaluation | None, task: str) -> Gain | None:
    """The paired comparison on the problems that both were given, or None if there are none."""
    if before is None or after is None:
        return None
    old, new = before.correct.get(task, {}), after.correct.get(task, {})
    ids = sorted(old.keys() & new.keys())
    if not ids:
        return None
    solved = [old[problem] for problem in ids], [new[problem] for problem in ids]
    shares = (round(sum(each) / len(ids), 6) for each in solved)
    change = mcnemar(*solved)
    return Gain(task, len(ids), *shares, change.gained, change.lost, change.p_value)
