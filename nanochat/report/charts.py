"""Pictures of the evidence as inline SVG, equal for equal input, in the colours of the page around them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nanochat.report.evidence import MODELS, Evidence, Points, Training
from nanochat.report.results import LABELS, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Stand-ins that become CSS, so that one picture serves the light and the dark page.
COLOURS = {
    "#010101": "currentColor", "#020202": "var(--rule)", "#030303": "var(--faint)",
    "#0a0a01": "var(--base)", "#0a0a02": "var(--mid)", "#0a0a03": "var(--sft)", "#0a0a04": "var(--rl)",
}  # fmt: skip
INK, RULE, FAINT = "#010101", "#020202", "#030303"
MODEL_COLOURS = dict(zip(MODELS, ("#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04"), strict=True))
TITLES = {"base": "Base", "mid": "Mid", "sft": "SFT", "rl": "RL"}
AXES = {
    "val_bpb": "bits per byte", "val_loss": "loss (nats per token)", "eval/accuracy": "share solved",
    "reward": "share solved",
}  # fmt: skip
WIDTH_IN, HEIGHT_IN = 4.4, 2.7
STYLE = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": RULE,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": RULE,
    "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.titlesize": 10, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "legend.frameon": False, "legend.fontsize": 8, "lines.linewidth": 1.6,
    "xtick.major.size": 0, "ytick.major.size": 0,
}  # fmt: skip


def all_charts(evidence: Evidence, summary: Sequence[Row]) -> dict[str, str]:
    """Name -> SVG of every picture that the evidence supports, in the order of the page."""
    charts: dict[str, str] = {}
    for model, training in evidence.trainings.items():
        if model == "rl":
            process = evidence.processes.get("rl")
            charts["rl"] = reward_chart(training, process.rewards if process else ())
        elif training.val_metric == "val_bpb":
            charts[f"{model} loss"] = loss_chart(model, training, with_validation=False)
            charts[f"{model} bits per byte"] = validation_chart(model, training)
        else:
            charts[f"{model} loss"] = loss_chart(model, training, with_validation=True)
    bars = [row for row in summary if row.metric in ("accuracy", "named", "token_f1")]
    if bars:
        charts["accuracy"] = accuracy_chart(bars)
    return charts


def loss_chart(model: str, training: Training, *, with_validation: bool) -> str:
    """Training loss, and validation loss where it has the same unit, against tokens read."""

    def draw(axes: Axes) -> None:
        axes.plot(*_per_token(training, training.train), color=FAINT, linewidth=1, label="training")
        if with_validation:
            line = {"color": MODEL_COLOURS[model], "marker": "o", "markersize": 3}
            axes.plot(*_per_token(training, training.val), **line, label="validation")
            axes.legend()
        axes.set(title=f"{TITLES[model]}: loss", xlabel="million tokens", ylabel=AXES["val_loss"])

    return svg(f"Loss of {model} against tokens", draw)


def validation_chart(model: str, training: Training) -> str:
    """The validation metric against tokens read."""

    def draw(axes: Axes) -> None:
        axes.plot(*_per_token(training, training.val), color=MODEL_COLOURS[model], marker="o", markersize=3)
        axes.set(
            title=f"{TITLES[model]}: validation", xlabel="million tokens", ylabel=AXES[training.val_metric]
        )

    return svg(f"Validation of {model} against tokens", draw)


def reward_chart(training: Training, rewards: Points) -> str:
    """Reward of the sampled answers and accuracy on held-out problems, against RL steps."""

    def draw(axes: Axes) -> None:
        if rewards:
            axes.plot(*zip(*rewards, strict=True), color=FAINT, linewidth=1, label="reward of samples")
        line = {"color": MODEL_COLOURS["rl"], "marker": "o", "markersize": 3}
        axes.plot(*zip(*training.val, strict=True), **line, label="held-out, greedy")
        axes.legend()
        axes.set(title="RL: problems solved", xlabel="step", ylabel=AXES["reward"])

    return svg("Reward and held-out accuracy of RL against steps", draw)


def accuracy_chart(rows: Sequence[Row]) -> str:
    """A group of bars for each task, a bar with its 95% interval for each model."""
    thickness = 0.8 / len(MODELS)

    def draw(axes: Axes) -> None:
        for place, model in enumerate(MODELS):
            shown = [(number, row.cells[model]) for number, row in enumerate(rows) if model in row.cells]
            if not shown:
                continue
            values = [cell.value for _, cell in shown]
            errors = [
                [cell.value - (cell.value if cell.low is None else cell.low) for _, cell in shown],
                [(cell.value if cell.high is None else cell.high) - cell.value for _, cell in shown],
            ]
            heights = [number + (place - 1.5) * thickness for number, _ in shown]
            axes.barh(
                heights, values, thickness * 0.85, color=MODEL_COLOURS[model], label=TITLES[model],
                xerr=errors, error_kw={"ecolor": INK, "elinewidth": 0.9},
            )  # fmt: skip
        labels = [row.task + ("" if row.metric == "accuracy" else f"\n{LABELS[row.metric]}") for row in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(title="Held-out problems, with 95% intervals", xlim=(0, 1))
        axes.legend(ncols=4, loc="upper left", bbox_to_anchor=(-0.02, -0.08), columnspacing=1, handlelength=1)

    return svg("Share of held-out problems solved by each model", draw, height=0.9 + 0.55 * len(rows))


def svg(title: str, draw: Callable[[Axes], None], *, height: float = HEIGHT_IN) -> str:
    """What ``draw`` paints, as an SVG element without size, date or font of its own."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return _inline(buffer.getvalue(), title)


def _inline(text: str, title: str) -> str:
    text = re.sub(
        r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text[text.index("<svg") :], flags=re.DOTALL
    )
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every picture, and nothing refers to them
    view = re.search(r'viewBox="[^"]*"', text)
    assert view, "matplotlib writes a viewBox"
    text = f'<svg {view[0]} role="img" aria-label="{title}">' + text[text.index(">") + 1 :]
    text = text.replace("'DejaVu Sans'", "system-ui, sans-serif").replace(' xlink:href="', ' href="')
    return re.sub("|".join(COLOURS), lambda match: COLOURS[match[0]], text)


def _per_token(training: Training, points: Points) -> tuple[list[float], list[float]]:
    millions = training.tokens / max(training.steps, 1) / 1e6
    return [step * millions for step, _ in points], [value for _, value in points]
