"""What the models of a sweep say together: read from their folders, fitted, and put into words and rows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from artifacts.errors import DataError
from nanochat.config.derive import scaling_parameters
from nanochat.config.model import ModelConfig
from nanochat.evals.scaling_law import PowerLaw, Trained, Valley, power_law, valley
from nanochat.model.cost import flops_per_token, parameters
from nanochat.report.evidence import read_evaluation
from nanochat.report.formatting import count

SCHEMA = 1
SCALING_LAWS, MINISERIES = "scaling-laws", "miniseries"
_REPEATED = 1.05  # passes over the text from which it is said that it was repeated


@dataclass(frozen=True)
class Point:
    """One trained model.

    ``parameters``: matrices and head, as scaling rules count. ``passes``: how often it read the text.
    """

    role: str
    depth: int
    budget: float | None
    parameters: int
    total_parameters: int
    steps: int
    tokens: int
    flops: float
    passes: float
    val_bpb: float
    evaluation: Mapping[str, float] = field(default_factory=dict)

    @property
    def tokens_per_parameter(self) -> float:
        """What the one dial would have been set to."""
        return self.tokens / self.parameters


@dataclass(frozen=True)
class Sweep:
    """The points, the valley of each budget, and the laws that hold over budgets (or over a miniseries).

    ``laws``: ``parameters`` and ``tokens`` of the best model of a budget, and its ``loss``, over FLOPs.
    """

    kind: str
    points: tuple[Point, ...]
    valleys: Mapping[float, Valley]
    laws: Mapping[str, PowerLaw]

    @classmethod
    def of(cls, kind: str, points: Sequence[Point]) -> Sweep:
        """Fit what the points allow to fit."""
        if kind == MINISERIES:
            law = power_law([(point.flops, point.val_bpb) for point in points])
            return cls(kind, tuple(points), {}, {"loss": law} if law else {})
        valleys = {}
        for budget in sorted({point.budget for point in points if point.budget is not None}):
            same = [point for point in points if point.budget == budget]
            valleys[budget] = valley([Trained(p.parameters, p.tokens, p.val_bpb) for p in same])
        optima = {budget: found.optimum for budget, found in valleys.items() if found.optimum}
        laws = {
            what: power_law([(budget, getattr(optimum, what)) for budget, optimum in optima.items()])
            for what in ("parameters", "tokens", "loss")
        }
        return cls(kind, tuple(points), valleys, {what: law for what, law in laws.items() if law})

    @property
    def tokens_per_parameter(self) -> float | None:
        """Geometric mean over the budgets whose best size was measured; None if there is none."""
        ratios = [found.optimum.tokens_per_parameter for found in self.valleys.values() if found.optimum]
        return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None

    @property
    def tasks(self) -> list[str]:
        """What every model was measured by, in the evaluation's order."""
        first = self.points[0].evaluation if self.points else {}
        return [task for task in first if all(task in point.evaluation for point in self.points)]

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "schema": SCHEMA, "kind": self.kind, "points": [_plain(point) for point in self.points],
            "valleys": [{"budget": budget, **asdict(found)} for budget, found in self.valleys.items()],
            "laws": {what: asdict(law) for what, law in self.laws.items()},
            "tokens_per_parameter": self.tokens_per_parameter, "findings": findings(self),
        }  # fmt: skip


def read_points(inputs: Mapping[str, Path], budgets: Mapping[str, float]) -> list[Point]:
    """A point for each model among ``inputs``: role -> folder, with ``eval-ROLE`` if it was evaluated.

    ``tokens`` is what all were trained on. Raises DataError that names a file which is not as it should be.
    """
    corpus = _corpus_tokens(inputs["tokens"])
    points = []
    for role, folder in inputs.items():
        if role == "tokens" or role.startswith("eval-"):
            continue
        try:
            meta, shape = (_json(folder / name) for name in ("meta.json", "config.json"))
            model, loss = ModelConfig.model_validate(shape), _json(folder / "losses.json")["val"][-1][1]
            ledger = meta["ledger"]
            points.append(
                Point(
                    role=role, depth=model.depth, budget=budgets.get(role),
                    parameters=scaling_parameters(model), total_parameters=parameters(model).total,
                    steps=meta["steps"], tokens=meta["tokens"],
                    flops=float(flops_per_token(model) * meta["tokens"]),
                    passes=(ledger["seen_tokens"] - ledger["left_tokens"]) / corpus, val_bpb=loss,
                    evaluation=_evaluation(inputs.get(f"eval-{role}")),
                )
            )  # fmt: skip
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DataError(f"{folder} is no base model: {error!r}", "rebuild it") from error
    return sorted(points, key=lambda point: (point.budget or 0.0, point.parameters))


def read_sweep(folder: Path) -> Sweep:
    """What ``sweep.json`` of a sweep's artifact says, fitted again."""
    said = _json(folder / "sweep.json")
    names = {field.name for field in fields(Point)}
    points = [Point(**{name: row[name] for name in names}) for row in said["points"]]
    return Sweep.of(said["kind"], points)


def findings(sweep: Sweep) -> list[str]:
    """What was found, in sentences, budget by budget and over all; also what cannot be said, and why."""
    return [*_of_budgets(sweep), *conclusions(sweep)]


def conclusions(sweep: Sweep) -> list[str]:
    """What was found over all models."""
    said = _laws(sweep) if sweep.kind == SCALING_LAWS else _of_series(sweep)
    repeated = max(sweep.points, key=lambda point: point.passes)
    if repeated.passes > _REPEATED:
        said.append(
            f"{repeated.role} read its text {repeated.passes:.1f} times: repeated text teaches less than new"
            " text, so it would do better with more of it."
        )
    return said


def table(sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    """Column names and one row of text for each point, as people read them."""
    tasks = sweep.tasks
    head = ["model", "parameters", "tokens", "tokens/parameter", "steps", "FLOPs", "val_bpb", *tasks]
    rows = [
        [
            point.role, count(point.parameters), count(point.tokens), f"{point.tokens_per_parameter:.3g}",
            f"{point.steps:,}", flops_text(point.flops), f"{point.val_bpb:.4f}",
            *(f"{point.evaluation[task]:.4g}" for task in tasks),
        ]
        for point in sweep.points
    ]  # fmt: skip
    return head, rows


def csv_text(sweep: Sweep) -> str:
    """The points as comma-separated values with a header, numbers in full."""
    rows = [_plain(point) for point in sweep.points]
    flat = [{**{k: v for k, v in row.items() if k != "evaluation"}, **row["evaluation"]} for row in rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in flat for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def exponent(law: PowerLaw) -> str:
    """``0.54 ± 0.01``, ``−0.052 ± 0.001``; from two points alone, ``0.54``."""
    places = 2 if abs(law.exponent) >= 0.095 else 3
    error = "" if law.error is None else f" ± {law.error:.{places}f}"
    return f"{law.exponent:.{places}f}{error}".replace("-", "−")


def budget_table(sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    """Column names and a row of text for each budget: its best model, or why there is none."""
    head = ["FLOPs", "best size", "tokens", "tokens/parameter", "val_bpb", "verdict"]
    rows = []
    for budget, found in sweep.valleys.items():
        best = found.optimum
        cells = ["–"] * 4
        if best:
            cells = [count(best.parameters), count(best.tokens), f"{best.tokens_per_parameter:.3g}",
                     f"{best.loss:.4f}"]  # fmt: skip
        rows.append([flops_text(budget), *cells, found.verdict])
    return head, rows


def _of_budgets(sweep: Sweep) -> list[str]:
    said = []
    for budget, found in sweep.valleys.items():
        text = f"{found.verdict}."
        if best := found.optimum:
            text = (
                f"{count(best.parameters)} parameters are best, trained on {count(best.tokens)} tokens:"
                f" {best.tokens_per_parameter:.3g} a parameter, {best.loss:.4f} bits per byte."
            )
        said.append(f"{flops_text(budget)} FLOPs: {text}")
    return said


def _laws(sweep: Sweep) -> list[str]:
    said = []
    if "parameters" in sweep.laws:
        sizes, tokens = sweep.laws["parameters"], sweep.laws["tokens"]
        said.append(
            f"The best size grows as FLOPs^{exponent(sizes)}, its tokens as FLOPs^{exponent(tokens)},"
            f" from {_range(sizes)} FLOPs."
        )
    else:
        number = sum(found.optimum is not None for found in sweep.valleys.values())
        there = "is one" if number == 1 else "is none"
        said.append(
            f"No power law: it takes two budgets whose best size lies among those measured, there {there}."
        )
    if sweep.tokens_per_parameter is not None:
        said.append(f"Best tokens per parameter, geometric mean: {sweep.tokens_per_parameter:.3g}.")
    return said


def _of_series(sweep: Sweep) -> list[str]:
    best = min(sweep.points, key=lambda point: point.val_bpb)
    said = [f"{best.role} is best: {best.val_bpb:.4f} bits per byte."]
    if law := sweep.laws.get("loss"):
        said.append(f"Bits per byte go as FLOPs^{exponent(law)}, from {_range(law)} FLOPs.")
    else:
        said.append("No power law: it takes two models whose cost differs.")
    return said


def _range(law: PowerLaw) -> str:
    return f"{flops_text(law.low)} to {flops_text(law.high)}"


def flops_text(value: float) -> str:
    """``1e18``, ``2.15e18``."""
    return f"{value:.3g}".replace("e+0", "e").replace("e+", "e")


def _plain(point: Point) -> dict[str, Any]:
    values = asdict(point)
    values["tokens_per_parameter"] = point.tokens_per_parameter
    return values


def _corpus_tokens(folder: Path) -> int:
    """Tokens of the training split, with the BOS of each document, as a loader's ledger counts."""
    about = [_json(path) for path in sorted(folder.glob("shard_*.json"))]
    train = sum(shard["tokens"] + shard["rows"] for shard in about if shard["split"] == "train")
    if not train:
        raise DataError(f"{folder} holds no training tokens", "rebuild it")
    return train


def _evaluation(folder: Path | None) -> dict[str, float]:
    """Accuracy by task, and what else was measured of the whole model."""
    metrics = read_evaluation(folder, samples=0).metrics if folder else ()
    shown = (m for m in metrics if m.name == "accuracy" or not (m.task or m.name == "val_bpb"))
    return {metric.task or metric.name: metric.value for metric in shown}


def _json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}", "rebuild the artifact") from error
    return value
