"""A picture of a training curve, small enough to stand inside a Prefect artifact."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import Any

_CURVES = ("train/loss", "val_bpb", "val_loss", "rl/reward")


def curve_markdown(records: Iterable[dict[str, Any]], title: str) -> str | None:
    """Markdown with the curves of a stage as a PNG data URI; None if there is nothing to draw yet."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        if record["name"] in _CURVES and record["step"] is not None:
            curves.setdefault(record["name"], []).append((record["step"], float(record["value"])))
    if not curves:
        return None
    picture = base64.b64encode(_png(curves, title)).decode("ascii")
    return f"![{title}](data:image/png;base64,{picture})"


def _png(curves: dict[str, list[tuple[int, float]]], title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else "")
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
