"""Scaling laws from trained models: the best size for a budget, and how it grows with compute.

Approach 2 of Hoffmann et al., "Training Compute-Optimal Large Language Models" (2022), section 3.2, as
nanochat applies it: models of several sizes N are trained with equal compute C; a parabola of the loss
over lg N has its lowest point at the best size; the best sizes of several budgets follow N ∝ C^a, the
tokens D that the budgets afford at them D ∝ C^b. Nothing is said about what was not measured: a lowest
point outside the measured sizes is no optimum, and a law holds between the budgets it was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial

SPREAD = 1.1  # largest over smallest x, from which a slope means something
BRACKETED = "bracketed"
TOO_FEW = "not fitted: a parabola needs three sizes"
NO_VALLEY = "not bracketed: the curve has no lowest point"
TOO_LARGE = "not bracketed: smaller models may do better"
TOO_SMALL = "not bracketed: larger models may do better"


@dataclass(frozen=True)
class Trained:
    """One trained model: its size, the tokens it read, and its loss in any unit."""

    parameters: int
    tokens: int
    loss: float


@dataclass(frozen=True)
class Optimum:
    """The lowest point of a budget's parabola, and the tokens that the budget affords there."""

    parameters: float
    tokens: float
    loss: float

    @property
    def tokens_per_parameter(self) -> float:
        """The ratio that the one dial takes."""
        return self.tokens / self.parameters


@dataclass(frozen=True)
class Valley:
    """loss = c0 + c1 lg N + c2 (lg N)^2 of one budget, if fitted, and what it allows to say.

    ``misfit``: root mean square of what the parabola misses; None where three points leave no choice.
    """

    verdict: str
    coefficients: tuple[float, float, float] | None = None
    optimum: Optimum | None = None
    misfit: float | None = None


@dataclass(frozen=True)
class PowerLaw:
    """y = level · (x / middle)^exponent for x from ``low`` to ``high``, whose geometric mean is ``middle``.

    ``error``: standard error of the exponent; None for two points, through which there is one line.
    """

    exponent: float
    level: float
    error: float | None
    low: float
    high: float
    middle: float

    def at(self, x: float) -> float:
        """y at ``x``. ValueError outside of what was measured."""
        if not self.low * (1 - 1e-9) <= x <= self.high * (1 + 1e-9):
            raise ValueError(f"the law was measured from {self.low:g} to {self.high:g}, not at {x:g}")
        return float(self.level * (x / self.middle) ** self.exponent)


def valley(trained: Sequence[Trained]) -> Valley:
    """The parabola through models that were trained with equal compute, and its lowest point.

    Tokens at the optimum are read between its neighbours, on a line through lg tokens over lg N: exact
    compute a token, attention and head included, instead of the rule C = 6 N D.
    """
    models = sorted(trained, key=lambda model: model.parameters)
    size = np.log10([model.parameters for model in models])
    loss = np.array([model.loss for model in models])
    if len(set(size)) < 3:
        return Valley(TOO_FEW)
    fitted = Polynomial.fit(size, loss, 2)
    c0, c1, c2 = (float(value) for value in fitted.convert().coef)
    misfit = None if len(models) == 3 else float(np.sqrt(np.mean((fitted(size) - loss) ** 2)))
    verdict, lowest = NO_VALLEY, None
    if c2 > 0:
        lowest = float(fitted.deriv().roots()[0])
        verdict = TOO_LARGE if lowest < size[0] else TOO_SMALL if lowest > size[-1] else BRACKETED
    if lowest is None or verdict != BRACKETED:
        return Valley(verdict, (c0, c1, c2), None, misfit)
    tokens = 10 ** float(np.interp(lowest, size, np.log10([model.tokens for model in models])))
    return Valley(verdict, (c0, c1, c2), Optimum(10**lowest, tokens, float(fitted(lowest))), misfit)


def power_law(points: Sequence[tuple[float, float]]) -> PowerLaw | None:
    """The straight line of lg y over lg x by least squares; None if no two x differ by a tenth."""
    if not points or max(x for x, _ in points) < SPREAD * min(x for x, _ in points):
        return None
    x, y = np.log10(np.array(points)).T
    middle = x.mean()
    if len(points) == 2:
        (exponent, level), error = np.polyfit(x - middle, y, 1), None
    else:
        (exponent, level), covariance = np.polyfit(x - middle, y, 1, cov=True)
        error = float(np.sqrt(max(covariance[0, 0], 0.0)))
    low, high, centre, value = (float(10**each) for each in (x.min(), x.max(), middle, level))
    return PowerLaw(float(exponent), value, error, low, high, centre)
