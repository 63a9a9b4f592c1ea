"""What a learning-rate range test says: loss over rate, smoothed, and the rates that matter on it.

The test is Smith's (Cyclical Learning Rates, 2017; with an exponential ramp as in fastai): rates are good
where the loss falls fastest, and useless where it rises again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = 1
LOST = 0.25  # of what was gained; who loses that much from the lowest point on diverges
_BELOW_LOWEST = 3.0  # the suggestion stays this factor below the rate of the lowest loss
_ROWS, _COLUMNS = 12, 64


@dataclass(frozen=True)
class LRCurve:
    """One step a point: ``scales`` of every learning rate, ascending, and the loss of that step in nats.

    Loss at a step follows from the rates of all steps before it, so a point tells of a ramp, not of a rate.
    """

    scales: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smoothed(self) -> list[float]:
        """Mean over neighbours, a tenth of the curve wide."""
        return smooth(self.losses, width=max(1, len(self.losses) // 10))

    @property
    def lowest(self) -> int:
        """Where the smoothed loss is least."""
        values = self.smoothed
        return values.index(min(values))

    @property
    def steepest(self) -> int:
        """Where it falls fastest over the logarithm of the rate, before the lowest point."""
        values = self.smoothed
        slopes = [
            (values[i + 1] - values[i - 1]) / math.log(self.scales[i + 1] / self.scales[i - 1])
            for i in range(1, max(2, self.lowest))
        ]
        return 1 + slopes.index(min(slopes))

    @property
    def diverged(self) -> int | None:
        """Where a quarter of what was gained is lost again; None if the ramp ended before."""
        values, lowest = self.smoothed, self.lowest
        limit = values[lowest] + LOST * max(values[0] - values[lowest], 1e-9)
        return next((i for i in range(lowest, len(values)) if values[i] > limit), None)

    @property
    def suggestion(self) -> float:
        """An ``lr_scale`` to begin with: the steepest point, but a third of the lowest point's at most."""
        return min(self.scales[self.steepest], self.scales[self.lowest] / _BELOW_LOWEST)

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        diverged = self.diverged
        return {
            "schema": SCHEMA, "scales": list(self.scales), "losses": list(self.losses),
            "smoothed": self.smoothed, "steepest": self.scales[self.steepest],
            "lowest": self.scales[self.lowest], "suggestion": self.suggestion,
            "diverged": None if diverged is None else self.scales[diverged],
        }  # fmt: skip


def smooth(values: Sequence[float], width: int) -> list[float]:
    """The mean of each value and up to ``width`` neighbours on both sides, as many on one as on the other."""
    means = []
    for i in range(len(values)):
        reach = min(width, i, len(values) - 1 - i)
        part = values[i - reach : i + reach + 1]
        means.append(sum(part) / len(part))
    return means


def chart(curve: LRCurve) -> str:
    """The smoothed loss as text, over the logarithm of the rate; the three rates are marked below it."""
    values, last = curve.smoothed, len(curve.scales) - 1
    low, high = min(values), max(values)
    columns = min(_COLUMNS, len(values))
    shown = [values[round(i * last / max(1, columns - 1))] for i in range(columns)]
    heights = [round((value - low) / max(high - low, 1e-12) * (_ROWS - 1)) for value in shown]
    lines = []
    for row in range(_ROWS - 1, -1, -1):
        label = {_ROWS - 1: f"{high:.2f}", 0: f"{low:.2f}"}.get(row, "")
        lines.append(f"{label:>7} │" + "".join("●" if height == row else " " for height in heights).rstrip())
    marks = {"^": curve.lowest, "x": curve.diverged, "*": curve.steepest}
    below = [" "] * columns
    for mark, index in marks.items():
        if index is not None:
            below[round(index * (columns - 1) / max(1, last))] = mark
    first, end = f"{curve.scales[0]:.3g}", f"{curve.scales[-1]:.3g}"
    lines.append(" " * 8 + "└" + "─" * columns)
    lines.append(" " * 9 + "".join(below).rstrip())
    lines.append(" " * 9 + first + end.rjust(max(columns - len(first), 1)))
    return "\n".join(lines)
