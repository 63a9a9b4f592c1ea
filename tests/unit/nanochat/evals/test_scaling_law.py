"""A known law is found again from what models that follow it would measure; nothing is made up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.evals.scaling_law import (
    BRACKETED,
    NO_VALLEY,
    TOO_FEW,
    TOO_LARGE,
    TOO_SMALL,
    PowerLaw,
    Trained,
    power_law,
    valley,
)

BUDGETS = [1e18, 3e18, 1e19, 3e19]
PREFACTOR = {"a": 406.4, "b": 410.7}  # of Hoffmann et al., equation 10
SIZES = (0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0)  # of the best size

# What nanochat published in January 2026 (dev/LOG.md; the budgets are those of runs/scaling_laws.sh): best
# sizes, their tokens, and the two exponents, for three ways to count parameters.
PUBLISHED_BUDGETS = [1e18, 2.15e18, 4.64e18, 1e19]
PUBLISHED = {
    "matrices and head": ([110_678_115, 167_797_457, 250_650_865, 381_758_347],
                          [1_241_505_403, 1_785_336_422, 2_642_234_152, 3_806_871_243], 0.54, 0.49),
    "everything": ([416_320_605, 560_239_841, 741_495_903, 988_644_331],
                   [1_232_157_011, 1_763_669_281, 2_629_909_368, 3_884_841_895], 0.37, 0.50),
    "matrices of the blocks": ([80_259_665, 131_488_566, 220_985_474, 401_213_504],
                               [1_315_639_547, 1_864_134_141, 2_595_328_843, 3_328_704_512], 0.70, 0.41),
}  # fmt: skip

exponents = st.floats(0.25, 0.45)


def best_size(budget: float, alpha: float, beta: float) -> float:
    """Where a / N^alpha + b / D^beta with 6 N D = budget is least (Hoffmann et al., equation 4)."""
    ratio = alpha * PREFACTOR["a"] / (beta * PREFACTOR["b"])
    return ratio ** (1 / (alpha + beta)) * (budget / 6) ** (beta / (alpha + beta))


def runs(budget: float, alpha: float, beta: float, around: float = 1.0) -> list[Trained]:
    """Models of several sizes, trained with ``budget`` FLOPs, whose losses follow the law."""
    made = []
    for share in SIZES:
        size = round(share * around * best_size(budget, alpha, beta))
        tokens = round(budget / 6 / size)
        loss = 1.69 + PREFACTOR["a"] / size**alpha + PREFACTOR["b"] / tokens**beta
        made.append(Trained(size, tokens, loss))
    return made


@given(alpha=exponents, beta=exponents)
def test_the_exponents_of_a_known_law_are_found(alpha: float, beta: float) -> None:
    optima = {budget: valley(runs(budget, alpha, beta)).optimum for budget in BUDGETS}
    sizes = power_law([(budget, optimum.parameters) for budget, optimum in optima.items()])
    tokens = power_law([(budget, optimum.tokens) for budget, optimum in optima.items()])
    assert sizes.exponent == pytest.approx(beta / (alpha + beta), abs=0.002)
    assert tokens.exponent == pytest.approx(alpha / (alpha + beta), abs=0.002)
    assert sizes.error < 0.002


@given(alpha=exponents, beta=exponents, around=st.floats(0.6, 1.6))
def test_the_best_size_is_found_wherever_the_sizes_lie(alpha: float, beta: float, around: float) -> None:
    found = valley(runs(1e19, alpha, beta, around))
    assert found.verdict == BRACKETED
    assert found.optimum.parameters == pytest.approx(best_size(1e19, alpha, beta), rel=0.35)
    assert 6 * found.optimum.parameters * found.optimum.tokens == pytest.approx(1e19, rel=1e-3)
    assert found.misfit < 0.02


@given(
    lowest=st.floats(7.2, 8.8), curvature=st.floats(0.01, 10), least=st.floats(0.5, 3.0),
    count=st.integers(3, 9),
)  # fmt: skip
def test_a_parabola_is_found_exactly(lowest: float, curvature: float, least: float, count: int) -> None:
    sizes = [round(10 ** (7 + 2 * number / (count - 1))) for number in range(count)]
    losses = [least + curvature * (math.log10(size) - lowest) ** 2 for size in sizes]
    found = valley([Trained(n, 10**18 // n, loss) for n, loss in zip(sizes, losses, strict=True)])
    assert math.log10(found.optimum.parameters) == pytest.approx(lowest, abs=1e-6)
    assert found.optimum.loss == pytest.approx(least)
    assert found.coefficients[2] == pytest.approx(curvature)
    assert (found.misfit is None) == (count == 3)
    assert (found.misfit or 0.0) < 1e-9


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([1.0, 1.1, 1.3], TOO_LARGE),
        ([1.3, 1.1, 1.0], TOO_SMALL),
        ([1.0, 1.2, 1.0], NO_VALLEY),
        ([1.0, 0.9, 1.0], BRACKETED),
        ([1.0, 0.9], TOO_FEW),
    ],
)
def test_a_lowest_point_that_was_not_measured_is_no_optimum(losses: list[float], verdict: str) -> None:
    trained = [Trained(10 ** (6 + number), 10**9, loss) for number, loss in enumerate(losses)]
    found = valley(trained)
    assert found.verdict == verdict
    assert (found.optimum is not None) == (verdict == BRACKETED)
    assert (found.coefficients is None) == (verdict == TOO_FEW)


def test_one_size_trained_thrice_is_one_size() -> None:
    assert valley([Trained(1000, 10, loss) for loss in (1.0, 0.9, 1.0)]).verdict == TOO_FEW


def test_the_order_of_the_runs_does_not_matter() -> None:
    trained = runs(1e18, 0.34, 0.28)
    assert valley(trained) == valley(trained[::-1])


@pytest.mark.parametrize("counted", PUBLISHED)
def test_the_published_optima_give_the_published_exponents(counted: str) -> None:
    sizes, tokens, of_sizes, of_tokens = PUBLISHED[counted]
    for found, exponent in ((sizes, of_sizes), (tokens, of_tokens)):
        law = power_law(list(zip(PUBLISHED_BUDGETS, found, strict=True)))
        assert law.exponent == pytest.approx(exponent, abs=0.0051)


@given(
    exponent=st.floats(-2, 2), coefficient=st.floats(1e-3, 1e3),
    places=st.lists(st.floats(1, 1e6), min_size=3, max_size=8, unique_by=lambda x: round(math.log10(x), 1)),
)  # fmt: skip
def test_a_power_law_is_found_exactly(exponent: float, coefficient: float, places: list[float]) -> None:
    law = power_law([(x, coefficient * x**exponent) for x in places])
    assert law.exponent == pytest.approx(exponent, abs=1e-6)
    assert law.error == pytest.approx(0, abs=1e-5)
    for place in (places[0], law.middle, law.high):
        assert law.at(place) == pytest.approx(coefficient * place**exponent, rel=1e-5)


def test_a_law_needs_two_places_and_says_how_sure_it_is_from_three() -> None:
    assert power_law([]) is None
    assert power_law([(1e18, 5.0), (1e18, 6.0)]) is None
    assert power_law([(1e18, 5.0), (1.05e18, 6.0), (1e18, 4.0)]) is None, "a slope of next to nothing"
    assert power_law([(1e18, 5.0), (1e19, 6.0)]).error is None
    assert power_law([(1.0, 1.0), (10.0, 12.0), (100.0, 90.0)]).error > 0


@pytest.mark.parametrize("x", [0.9e18, 1.1e19])
def test_a_law_says_nothing_about_what_was_not_measured(x: float) -> None:
    law = PowerLaw(0.5, 1e9, None, 1e18, 1e19, 1e18)
    assert law.at(1e18) == pytest.approx(1e9)
    with pytest.raises(ValueError, match="measured from 1e\\+18 to 1e\\+19"):
        law.at(x)
