"""Pictures of training curves and nightly trends, small enough to stand inside a Prefect artifact."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flows.trend import Night
    from nanochat.report.evidence import Metric

_CURVES = ("train/loss", "val_bpb", "val_loss", "rl/reward")


def curve_markdown(records: Iterable[dict[str, Any]], title: str) -> str | None:
    """Markdown with the curves of a stage as a PNG data URI; None if there is nothing to draw yet."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        if record["name"] in _CURVES and record["step"] is not None:
            curves.setdefault(record["name"], []).append((record["step"], float(record["value"])))
    if not curves:
        return None

    def draw(axes: Axes) -> None:
        for name, points in curves.items():
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else "")
        axes.set(title=title, xlabel="step")

    return _markdown(draw, title)


def trend_markdown(nights: Sequence[Night], title: str) -> str | None:
    """Markdown with the accuracies of several nights, each with its 95% interval; None without any."""
    tasks = dict.fromkeys(task for night in nights for task in night.evaluation.correct)
    series: dict[str, list[tuple[int, Metric]]] = {}
    for number, night in enumerate(nights):
        for task in tasks:
            if metric := night.evaluation.metric("accuracy", task):
                series.setdefault(task, []).append((number, metric))
    if not series:
        return None

    def draw(axes: Axes) -> None:
        for task, points in series.items():
            values = [metric.value for _, metric in points]
            spread = [
                [
                    value - (metric.low if metric.low is not None else value)
                    for value, (_, metric) in zip(values, points, strict=True)
                ],
                [
                    (metric.high if metric.high is not None else value) - value
                    for value, (_, metric) in zip(values, points, strict=True)
                ],
            ]
            axes.errorbar([number for number, _ in points], values, spread, label=task, marker=".", capsize=2)
        axes.set_xticks(range(len(nights)), [night.time[:10] for night in nights], rotation=45, ha="right")
        axes.set(title=title, ylim=(-0.02, 1.02), ylabel="accuracy")

    return _markdown(draw, title)


def _markdown(draw: Callable[[Axes], None], title: str) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return f"![{title}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')})"
