"""Pictures of a sweep: each panel drawn once, for the page as SVG and for elsewhere as one PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from nanochat.evals.scaling_law import PowerLaw, Valley
from nanochat.report.charts import FAINT, HEIGHT_IN, INK, svg
from nanochat.report.formatting import count
from nanochat.report.sweep import SCALING_LAWS, Point, Sweep, exponent, flops_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# From little compute to much: readable on a light page and on a dark one.
RAMP = ("#3b7dc4", "#7466c9", "#ac57b0", "#cf5a78", "#d97a3c")
STYLE = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 10,
    "axes.labelcolor": "#33363c", "axes.edgecolor": "#c9c6bf", "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e3e1dc", "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.titlesize": 11.5,
    "axes.titlelocation": "left", "axes.titleweight": "bold", "legend.frameon": False,
    "legend.fontsize": 9, "legend.title_fontsize": 9, "lines.linewidth": 1.8, "xtick.major.size": 0,
    "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0, "xtick.color": "#33363c",
    "ytick.color": "#33363c",
}  # fmt: skip
PANEL_IN, TALL_IN, DPI = 4.1, 3.6, 140
DASHES = (0, (4, 3))

Draw = Callable[["Axes", str, str], None]  # axes, ink, faint


def panels(sweep: Sweep) -> dict[str, Draw]:
    """What there is to see: description -> how it is drawn. A law that was not found has no panel."""
    if sweep.kind == SCALING_LAWS:
        drawn: dict[str, Draw] = {
            "Loss over size, a curve for each budget": _valleys(sweep),
            "Loss over tokens per parameter, a line for each budget": _ratios(sweep),
        }
        if "parameters" in sweep.laws:
            drawn["Best size over compute"] = _law(sweep, "parameters", "Best size", "parameters", "N")
            title = "Tokens at the best size"
            drawn[f"{title} over compute"] = _law(sweep, "tokens", title, "tokens", "D")
        return drawn
    drawn = {"Loss over compute": _series(sweep)}
    if sweep.tasks:
        drawn["Problems solved over compute"] = _solved(sweep)
    return drawn


def svgs(sweep: Sweep) -> dict[str, str]:
    """Description -> inline SVG in the colours of the page around it."""

    def painted(draw: Draw) -> Callable[[Axes], None]:
        return lambda axes: draw(axes, INK, FAINT)

    return {what: svg(what, painted(draw), height=HEIGHT_IN * 1.15) for what, draw in panels(sweep).items()}


def png(sweep: Sweep) -> bytes:
    """All panels side by side; equal bytes for an equal sweep."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = panels(sweep)
    rows = -(-len(drawn) // 2)
    with rc_context(STYLE):
        figure = Figure(figsize=(2 * PANEL_IN, rows * TALL_IN), layout="constrained", dpi=DPI)
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
        places = figure.subplots(rows, min(len(drawn), 2), squeeze=False).flat
        for axes, draw in zip(places, drawn.values(), strict=True):
            draw(axes, "#1d1f23", "#8a8f9c")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def colours(budgets: Mapping[float, Valley]) -> dict[float, str]:
    """A colour for each budget, the ramp spread over them."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    ramp = LinearSegmentedColormap.from_list("compute", RAMP)
    last = max(len(budgets) - 1, 1)
    return {budget: to_hex(ramp(number / last)) for number, budget in enumerate(sorted(budgets))}


def _valleys(sweep: Sweep) -> Draw:
    def draw(axes: Axes, ink: str, faint: str) -> None:
        for budget, colour in colours(sweep.valleys).items():
            found = sweep.valleys[budget]
            points = [point for point in sweep.points if point.budget == budget]
            _parabola(axes, points, found, colour)
            dots = {"color": colour, "markerfacecolor": colour if found.optimum else "none", "markersize": 5}
            axes.plot([p.parameters for p in points], [p.val_bpb for p in points], "o", **dots, zorder=3)
            if best := found.optimum:
                _star(axes, best.parameters, best.loss, colour, ink)
            end = max(points, key=lambda point: point.parameters)
            _beside(axes, flops_text(budget), (end.parameters, end.val_bpb), (7, -3), colour)
        axes.set(xlabel="parameters (matrices and head)", ylabel="bits per byte")
        axes.margins(x=0.06)
        _lg(axes.xaxis, _amount)
        dashed = any(found.optimum is None for found in sweep.valleys.values())
        what = "star: lowest point" + (", dashed: not bracketed" if dashed else ", FLOPs beside each curve")
        _title(axes, "Loss over size", what, ink)

    return draw


def _ratios(sweep: Sweep) -> Draw:
    def draw(axes: Axes, ink: str, faint: str) -> None:
        mean, said = sweep.tokens_per_parameter, "no lowest point was measured"
        if mean is not None:
            axes.axvline(mean, color=faint, linestyle=DASHES, linewidth=1.3)
            said = f"best: {mean:.3g}, the geometric mean of the budgets"
        for budget, colour in colours(sweep.valleys).items():
            points = [point for point in sweep.points if point.budget == budget]
            dots = {"color": colour, "markersize": 4, "linewidth": 1}
            axes.plot([p.tokens_per_parameter for p in points], [p.val_bpb for p in points], "o-", **dots)
            if best := sweep.valleys[budget].optimum:
                _star(axes, best.tokens_per_parameter, best.loss, colour, ink)
        axes.set(xlabel="tokens per parameter", ylabel="bits per byte")
        _lg(axes.xaxis, _ratio)
        _title(axes, "Loss over tokens per parameter", said, ink)

    return draw


def _parabola(axes: Axes, points: list[Point], found: Valley, colour: str) -> None:
    """Over the measured sizes and no further; dashed where its lowest point is not among them."""
    if found.coefficients is None:
        return
    ends = np.log10([min(p.parameters for p in points), max(p.parameters for p in points)])
    size = np.linspace(*ends, 100)
    c0, c1, c2 = found.coefficients
    style = "-" if found.optimum else DASHES
    axes.plot(10**size, c0 + c1 * size + c2 * size**2, color=colour, linestyle=style, linewidth=1.4)


def _law(sweep: Sweep, what: str, title: str, unit: str, letter: str) -> Draw:
    def draw(axes: Axes, ink: str, faint: str) -> None:
        law = sweep.laws[what]
        _line(axes, law, faint)
        for budget, colour in colours(sweep.valleys).items():
            if best := sweep.valleys[budget].optimum:
                _star(axes, budget, getattr(best, what), colour, ink)
        axes.set(xlabel="training FLOPs", ylabel=unit)
        axes.margins(x=0.12, y=0.2)
        _lg(axes.xaxis, flops_text)
        _lg(axes.yaxis, _amount)
        _title(axes, title, f"{letter} ∝ FLOPs^{exponent(law)}", ink)

    return draw


def _series(sweep: Sweep) -> Draw:
    def draw(axes: Axes, ink: str, faint: str) -> None:
        flops, losses = [p.flops for p in sweep.points], [p.val_bpb for p in sweep.points]
        said = ""
        if law := sweep.laws.get("loss"):
            _line(axes, law, faint)
            said = f"bits per byte ∝ FLOPs^{exponent(law)}"
        axes.plot(flops, losses, "o", color=RAMP[0], markersize=6)
        for point in sweep.points:
            _beside(axes, point.role, (point.flops, point.val_bpb), (6, 5), ink)
        axes.set(xlabel="training FLOPs", ylabel="bits per byte")
        axes.margins(x=0.12, y=0.15)
        _lg(axes.xaxis, flops_text)
        _title(axes, "Loss over compute", said, ink)

    return draw


def _solved(sweep: Sweep) -> Draw:
    def draw(axes: Axes, ink: str, faint: str) -> None:
        for task, colour in zip(sweep.tasks, _spread(len(sweep.tasks)), strict=True):
            shown = [(point.flops, point.evaluation[task]) for point in sweep.points]
            axes.plot(*zip(*shown, strict=True), marker="o", markersize=4, color=colour, label=task)
        axes.set(xlabel="training FLOPs", ylabel="share solved", ylim=(-0.03, 1.03))
        _lg(axes.xaxis, flops_text)
        _title(axes, "Held-out problems", "answered greedily by the base models", ink)
        axes.legend()

    return draw


def _spread(number: int) -> list[str]:
    return list(colours(dict.fromkeys(map(float, range(number)), Valley(""))).values())


def _line(axes: Axes, law: PowerLaw, colour: str) -> None:
    """A law between the ends of what it was fitted on."""
    x = np.geomspace(law.low, law.high, 50)
    axes.plot(x, [law.at(value) for value in x], color=colour, linestyle=DASHES, linewidth=1.3)


def _star(axes: Axes, x: float, y: float, colour: str, ink: str) -> None:
    axes.plot(x, y, "*", color=colour, markersize=13, markeredgecolor=ink, markeredgewidth=0.8, zorder=4)


def _beside(
    axes: Axes, text: str, point: tuple[float, float], offset: tuple[int, int], colour: str
) -> None:  # fmt: skip
    place = {"xytext": offset, "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(text, point, color=colour, fontsize="small", **place)


def _title(axes: Axes, title: str, below: str, ink: str) -> None:
    axes.set_title(title, pad=20)
    said = axes.text(0, 1.025, below, transform=axes.transAxes, fontsize="small", color=ink, alpha=0.7)
    said.set_in_layout(False)  # a long one shall not push the panels apart


def _lg(axis: Axis, text: Callable[[float], str]) -> None:
    """A logarithmic axis whose ticks read like the rest of the page; more of them where it is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_data_interval()
    decades = np.log10(high / low)
    steps = {3.5: (1,), 2: (1, 3), 1.2: (1, 2, 5), 0.5: (1, 2, 3, 5), 0: (1, 1.2, 1.5, 2, 2.5, 3, 4, 6, 8)}
    places = next(subs for least, subs in steps.items() if decades >= least)
    axis._set_axes_scale("log")
    axis.set_major_locator(LogLocator(subs=places, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, place: text(value)))
    axis.set_minor_locator(NullLocator())


def _amount(value: float) -> str:
    return count(value).replace(".0 ", " ")


def _ratio(value: float) -> str:
    return _amount(value) if value >= 1000 else f"{value:g}"
