"""Schedules: bounds and the published course."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.config.optim import Schedule, cosine_to_zero


@given(st.integers(1, 3000), st.integers(0, 100), st.floats(0, 1), st.floats(0, 1))
def test_multipliers_stay_in_bounds(total: int, warmup: int, warmdown: float, final: float) -> None:
    schedule = Schedule(warmup_steps=warmup, warmdown_share=warmdown, final_lr_share=final)
    for step in {0, total // 3, total // 2, total - 1}:
        assert 0 < schedule.lr(step, total) <= 1 or final == 0
        assert 0.85 <= schedule.momentum(step, total) <= 0.97
        assert 0 <= cosine_to_zero(step, total) <= 1


def test_the_course_of_a_long_run() -> None:
    schedule = Schedule()
    assert schedule.lr(0, 1000) == pytest.approx(1 / 40)
    assert schedule.lr(300, 1000) == 1.0
    assert schedule.lr(1000, 1000) == pytest.approx(0.05)
    assert schedule.momentum(0, 4000) == pytest.approx(0.85)
    assert schedule.momentum(1000, 4000) == pytest.approx(0.97)
    assert schedule.momentum(4000, 4000) == pytest.approx(0.90)


def test_momentum_rises_by_the_step_and_not_by_the_share_of_a_short_run() -> None:
    assert Schedule().momentum(75, 300) == pytest.approx(0.85 + 0.12 * 75 / 400)
