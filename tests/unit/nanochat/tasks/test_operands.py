"""Operand pairs are found however an expression is written, and split the same way for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.tasks.operands import SMALL, has_test_pair, is_test_pair, operand_pairs

NUMBERS = st.integers(0, 10**6)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("What is 37 + 45?", {(37, 45)}),
        ("12*24-57", {(12, 24), (24, 57)}),
        ("(34+58)*3 = 276", {(34, 58), (3, 58)}),
        ("3 * (58 + 34)", {(3, 58), (34, 58)}),
        ("1,200 * 2 and f(1,37+45)", {(2, 1200), (37, 45)}),
        ("84 divided by 7, 9 times 8", {(7, 84), (8, 9)}),
        ("in 1999 there were 12 of 13", set()),
        ("9" * 5000 + "+1", set()),
    ],
)
def test_pairs_of_a_text(text: str, pairs: set[tuple[int, int]]) -> None:
    assert operand_pairs(text) == pairs


@given(NUMBERS, NUMBERS, st.sampled_from(["+", "-", "*", "/", " + ", " times ", ")*(", " ×\n"]))
def test_every_written_operation_is_found(a: int, b: int, operation: str) -> None:
    assert operand_pairs(f"Say {a}{operation}{b}.") == {(min(a, b), max(a, b))}
    assert has_test_pair(f"{a}{operation}{b}") == is_test_pair(a, b)


@given(NUMBERS, NUMBERS)
def test_order_does_not_matter_and_small_pairs_are_training(a: int, b: int) -> None:
    assert is_test_pair(a, b) == is_test_pair(b, a)
    assert not is_test_pair(a % SMALL, b % SMALL)


def test_a_tenth_of_the_pairs_is_test_and_which_ones_never_changes() -> None:
    test = [(a, b) for a in range(100, 200) for b in range(a, 200) if is_test_pair(a, b)]
    assert 0.08 < len(test) / 5050 < 0.12
    assert test[:3] == [(100, 100), (100, 104), (100, 120)]
