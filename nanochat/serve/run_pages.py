"""Pages about what was run and measured: runs, stages that run now, and evaluations night after night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from nanochat.report import formatting
from nanochat.serve.catalog import Catalog, Curve, Measured, Trend
from nanochat.serve.line_chart import Line, line_chart
from nanochat.serve.templating import page

_RUNS, _NIGHTS = 100, 30


def run_routes(catalog: Catalog) -> APIRouter:
    """These pages over one catalog."""
    routes = APIRouter()

    def now() -> list[dict[str, object]]:
        return [
            {"stage": stage, "charts": curve_charts(stage.stage, stage.curves)} for stage in catalog.working()
        ]

    @routes.get("/runs")
    def runs() -> HTMLResponse:
        return page("runs.html", runs=catalog.runs(_RUNS), working=now())

    @routes.get("/runs/now")
    def working() -> HTMLResponse:
        """What the page asks for again and again; a part of it."""
        return page("working.html", working=now())

    @routes.get("/runs/{id}")
    def run(id: str) -> HTMLResponse:
        found = catalog.run(id)
        charts = {
            stage.stage: pictures
            for stage in found.stages
            if stage.artifact and (pictures := curve_charts(stage.stage, catalog.curves(stage.artifact)))
        }
        return page("run.html", run=found, charts=charts)

    @routes.get("/evals")
    def evals() -> HTMLResponse:
        found = [
            {"trend": trend, "charts": trend_charts(trend), "rows": table(trend)}
            for trend in catalog.trends(_NIGHTS)
        ]
        return page("evals.html", trends=found)

    return routes


@dataclass(frozen=True)
class Chart:
    """A picture, its title, and the names of its lines if there are several."""

    title: str
    picture: Markup
    names: Sequence[str] = ()


def curve_charts(stage: str, curves: Sequence[Curve]) -> list[Chart]:
    """A picture of each unit; losses of training and validation share one."""
    by_unit: dict[str, list[Curve]] = {}
    for curve in curves:
        if curve.points:
            by_unit.setdefault(curve.unit or curve.name, []).append(curve)
    charts = []
    for unit, together in by_unit.items():
        title = together[0].name if len(together) == 1 else unit
        lines = [Line(curve.name, curve.points) for curve in together]
        drawn = line_chart(f"{stage}, {title}", lines, x_label="step", y_label=unit)
        charts.append(Chart(title, drawn, [line.name for line in lines] if len(lines) > 1 else ()))
    return charts


def trend_charts(trend: Trend) -> list[Chart]:
    """Accuracies night after night with their 95% intervals, and bits per byte; nothing for one night."""
    if len(trend.nights) < 2:
        return []
    series: dict[tuple[str, str], list[tuple[int, Measured]]] = {}
    for number, night in enumerate(trend.nights):
        for measured in night.measured:
            series.setdefault((measured.name, measured.task), []).append((number, measured))
    names = [night.time[5:10] for night in trend.nights]
    charts = []
    for name in dict.fromkeys(name for name, _ in series):
        chosen = {task or name: points for (its, task), points in series.items() if its == name}
        share = (0.0, 1.0) if name in formatting.SHARES else None
        drawn = line_chart(
            f"{trend.name}, {name}", _trend_lines(chosen), x_label="night", y_label=name, x_names=names,
            y_range=share,
        )  # fmt: skip
        charts.append(Chart(name, drawn, list(chosen) if len(chosen) > 1 else ()))
    return charts


def _trend_lines(chosen: Mapping[str, Sequence[tuple[int, Measured]]]) -> list[Line]:
    return [
        Line(
            name, [(number, measured.value) for number, measured in points],
            [None if measured.low is None or measured.high is None else (measured.low, measured.high)
             for _, measured in points],
        )
        for name, points in chosen.items()
    ]  # fmt: skip


def table(trend: Trend) -> list[tuple[str, str, str, str, str]]:
    """Of the last night: (what, value, 95% interval, problems, change since the night before)."""
    *earlier, last = trend.nights
    before = {(item.task, item.name): item.value for night in earlier[-1:] for item in night.measured}

    def change(item: Measured) -> str:
        value = before.get((item.task, item.name))
        return "" if value is None else formatting.change(item.name, item.value - value)

    return [
        (
            " ".join(filter(None, (item.task, item.name if item.name != "accuracy" else ""))),
            formatting.number(item.name, item.value), formatting.interval(item.name, item.low, item.high),
            "" if item.n is None else f"{item.n:,}", change(item),
        )
        for item in last.measured
    ]  # fmt: skip
