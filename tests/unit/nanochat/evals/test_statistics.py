"""Intervals and tests against published or hand-computed values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from nanochat.evals.statistics import bootstrap_interval, mcnemar, wilson_interval


def test_wilson_interval_of_a_known_case() -> None:
    assert wilson_interval(300, 500) == pytest.approx((0.5564, 0.6420), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 10)[0] == 0


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share(case: tuple[int, int]) -> None:
    low, high = wilson_interval(*case)
    assert 0 <= low <= case[0] / case[1] <= high <= 1
    reference = binomtest(*case).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_bootstrap_interval_is_near_the_normal_one_and_repeatable() -> None:
    scores = [0.0, 1.0] * 200
    low, high = bootstrap_interval(scores, seed=3)
    assert (low, high) == pytest.approx((0.5 - 0.049, 0.5 + 0.049), abs=0.01)
    assert bootstrap_interval(scores, seed=3) == (low, high)
    assert bootstrap_interval([0.7] * 9) == pytest.approx((0.7, 0.7))
    assert bootstrap_interval([]) == (0.0, 1.0)


def test_mcnemar_counts_only_the_problems_that_changed() -> None:
    before = [True] * 5 + [False] * 15 + [True] * 80
    after = [False] * 5 + [True] * 15 + [True] * 80
    change = mcnemar(before, after)
    assert (change.gained, change.lost) == (15, 5)
    assert change.p_value == pytest.approx(0.04139, abs=1e-5)  # 2 x P(Binomial(20, 1/2) <= 5)
    assert change.p_value == pytest.approx(binomtest(15, 20).pvalue)
    assert mcnemar(before, before).p_value == 1.0
