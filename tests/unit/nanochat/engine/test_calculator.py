"""The calculator gives exact values, explicit errors, and nothing else, from any thread."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.engine.calculator import CalculatorError, calculate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("37+45", "82"),
        ("12*24-57", "231"),
        ("(34+58)*3", "276"),
        ("84/7", "12"),
        ("10/4", "2.5"),
        ("10/3", "3.333333"),
        ("-1/10000000", "0"),
        ("0.1+0.2", "0.3"),
        ("1,200 * 2", "2400"),
        ("-(2+3)", "-5"),
        ("999999999999*1000", "999999999999000"),
        ("'strawberry'.count('r')", "3"),
        ('"banana".count("an")', "2"),
    ],
)
def test_value(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "", " ", "2**9", "7//2", "1/0", "1/(2-2)", "2 3", "(1", "()", "08", "abc", "__import__('os')",
        "'a'.upper()", "'a'.count(b)", "'a'.count('')", "'a'*99", "9" * 30, "1(2)", "99999999*99999999",
        "(" * 150 + "1" + ")" * 150, "1+\n2", "1\x002", "1 if 2 else 3", "5%2", "1e9", "²+1",
    ],
)  # fmt: skip
def test_refused(expression: str) -> None:
    with pytest.raises(CalculatorError):
        calculate(expression)


@given(st.integers(-999, 999), st.integers(-999, 999), st.integers(1, 99))
def test_agrees_with_integers(a: int, b: int, c: int) -> None:
    assert calculate(f"({a}+{b})*{c}") == str((a + b) * c)
    assert calculate(f"{a * c}/{c}") == str(a)


ALPHABETS = ("0123456789+-*/(). ", "12()+-*/", "'abr\".count()", "0123456789+-*/().,e_jx'\\\n\x00 ")


def _fuzz(seed: int) -> str:
    rng = Random(seed)
    alphabet = rng.choice(ALPHABETS)
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 220)))


def _outcome(expression: str) -> str | None:
    try:
        return calculate(expression)
    except CalculatorError:
        return None


@pytest.mark.criterion("T66")
def test_fuzz_off_the_main_thread_never_leaks_an_exception_or_a_non_number() -> None:
    short = ["".join(Random(-seed).choices("123456789+-*/", k=1 + seed % 7)) for seed in range(2500)]
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(_outcome, [_fuzz(seed) for seed in range(2500)] + short))
    values = [outcome for outcome in outcomes if outcome is not None]
    assert len(values) > 500
    assert all(re.fullmatch(r"-?\d+(\.\d{1,6})?", value) for value in values)
