"""How sure a number is: counts or scores in, intervals and p-values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000

Interval = tuple[float, float]


def wilson_interval(successes: int, n: int) -> Interval:
    """95% interval of a share (Wilson, 1927); (0, 1) when nothing was counted."""
    if n == 0:
        return 0.0, 1.0
    share, z2_over_n = successes / n, NormalDist().inv_cdf((1 + CONFIDENCE) / 2) ** 2 / n
    middle = share + z2_over_n / 2
    reach = (z2_over_n * (share * (1 - share) + z2_over_n / 4)) ** 0.5
    low, high = ((middle + side * reach) / (1 + z2_over_n) for side in (-1, 1))
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def bootstrap_interval(scores: Sequence[float], seed: int = 0) -> Interval:
    """95% percentile interval of the mean (Efron, 1979), from a seeded generator."""
    if not scores:
        return 0.0, 1.0
    values = np.asarray(scores, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class PairedChange:
    """Two models on the same problems: how many only the second, or only the first, solved."""

    gained: int
    lost: int
    p_value: float  # two-sided exact McNemar test


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> PairedChange:
    """Exact McNemar test (1947): are gains and losses of the same problems a fair coin?"""
    from scipy.special import bdtr  # half a second, which only a report needs

    assert len(before) == len(after), "McNemar's test needs the same problems twice"
    gained = sum(new and not old for old, new in zip(before, after, strict=True))
    lost = sum(old and not new for old, new in zip(before, after, strict=True))
    p_value = min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))
    return PairedChange(gained, lost, p_value)
