"""A line chart as SVG in the colours of the page: no style of its own, so that a strict policy lets it be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 40
MOST_POINTS = 300
NUM_COLOURS = 6
_LARGEST = 1e300

Interval = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A named line; ``intervals``: of each point, or none at all."""

    name: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[Interval | None] = ()


@dataclass(frozen=True)
class _Axis:
    """Values from ``low`` to ``high`` become pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> str:
        return f"{self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start):.1f}"


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_names: Sequence[str] = (),
    y_range: Interval | None = None,
) -> Markup:
    """An ``<svg>``. ``x_names``: below x = 0, 1, … instead of numbers. What is not finite is left out."""
    lines = [_thinned(line) for line in map(_finite, lines) if line.points]
    if not lines:
        return Markup('<p class="soft">No finite number.</p>')
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    ys += [bound for line in lines for interval in line.intervals if interval for bound in interval]
    x_axis = _Axis(*_apart(min(xs), max(xs)), LEFT, WIDTH - RIGHT)
    y_axis = _Axis(*(y_range or _apart(min(ys), max(ys), margin=0.04)), HEIGHT - BOTTOM, TOP)
    parts = [_grid(x_axis, y_axis, x_names)]
    parts += [_line(line, number % NUM_COLOURS, x_axis, y_axis) for number, line in enumerate(lines)]
    middle = (HEIGHT - BOTTOM + TOP) / 2
    turned = f'transform="translate(11 {middle:g}) rotate(-90)"'
    parts.append(
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>'
        f'<text {turned} text-anchor="middle">{escape(y_label)}</text>'
    )
    said = escape(f"{title}: {'; '.join(map(_in_words, lines))}")
    return Markup(  # noqa: S704 -- every text in it was escaped
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">'
        f"{''.join(parts)}</svg>"
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two, at most so many."""
    raw = (high - low) / max(1, most - 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [step * number for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _apart(low: float, high: float, margin: float = 0.0) -> Interval:
    """The two, with a margin; never the same."""
    if low == high:
        return low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    reach = margin * (high - low)
    return low - reach, high + reach


def _finite(line: Line) -> Line:
    """The points that have a place; an interval without one is none."""
    intervals = line.intervals or [None] * len(line.points)
    chosen = [
        (point, interval if interval and all(map(_has_place, interval)) else None)
        for point, interval in zip(line.points, intervals, strict=True)
        if all(map(_has_place, point))
    ]
    return Line(line.name, [point for point, _ in chosen], [interval for _, interval in chosen])


def _has_place(value: float) -> bool:
    """False for NaN, infinity, and what is so large that a difference of two would be infinite."""
    return abs(value) < _LARGEST


def _thinned(line: Line) -> Line:
    """At most so many points, the last one always."""
    stride = math.ceil(len(line.points) / MOST_POINTS)
    if stride <= 1:
        return line
    chosen = sorted({*range(0, len(line.points), stride), len(line.points) - 1})
    intervals = [line.intervals[number] for number in chosen] if line.intervals else ()
    return Line(line.name, [line.points[number] for number in chosen], intervals)


def _grid(x_axis: _Axis, y_axis: _Axis, x_names: Sequence[str]) -> str:
    below = [(float(number), name) for number, name in enumerate(x_names)]
    stride = max(1, math.ceil(len(below) / 6))
    below = below[::stride] or [(tick, _short(tick)) for tick in ticks(x_axis.low, x_axis.high)]
    rows = "".join(
        f'<path class="rule" d="M{LEFT},{y_axis.at(tick)} H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{y_axis.at(tick)}" dy=".32em" text-anchor="end">{_short(tick)}</text>'
        for tick in ticks(y_axis.low, y_axis.high)
    )
    return rows + "".join(
        f'<text x="{x_axis.at(x)}" y="{HEIGHT - BOTTOM + 17}" text-anchor="{_anchor(x, x_axis)}">'
        f"{escape(name)}</text>"
        for x, name in below
    )


def _anchor(x: float, axis: _Axis) -> str:
    """At the right edge there is no room on the other side."""
    return "end" if x > axis.high - 0.04 * (axis.high - axis.low) else "middle"


def _short(value: float) -> str:
    """``0.85``, ``1,500``, ``51 K``."""
    return f"{value / 1000:,.6g} K" if abs(value) >= 10_000 else f"{value:,.6g}"


def _line(line: Line, colour: int, x_axis: _Axis, y_axis: _Axis) -> str:
    places = [(x_axis.at(x), y_axis.at(y)) for x, y in line.points]
    path = " ".join(f"{'L' if number else 'M'}{x},{y}" for number, (x, y) in enumerate(places))
    whiskers = "".join(
        f'<path class="whisker" d="M{x},{y_axis.at(interval[0])} V{y_axis.at(interval[1])}"/>'
        for (x, _), interval in zip(places, line.intervals, strict=False)
        if interval
    )
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.5"/>' for x, y in places) if len(places) <= 40 else ""
    return f'<g class="line l{colour}">{whiskers}<path d="{path}"/>{dots}</g>'


def _in_words(line: Line) -> str:
    (first_x, first), (last_x, last) = line.points[0], line.points[-1]
    if len(line.points) == 1:
        return f"{line.name} {first:.4g}"
    return f"{line.name} from {first:.4g} at {first_x:g} to {last:.4g} at {last_x:g}"
