"""What the evidence amounts to, in plain values without a clock: the part of a report that is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nanochat.report.comparisons import Flatness, Gain, flatness_of, gain_of
from nanochat.report.evidence import MODELS, Evaluation, Evidence, Metric
from nanochat.report.targets import HARD, Target, judge

LABELS = {
    "val_bpb": "bits per byte",
    "ended": "ended by itself",
    "named": "ended and named",
    "token_f1": "token F1",
}
LOWER_IS_BETTER = {"val_bpb"}


@dataclass(frozen=True)
class Cell:
    """One number of the summary table; ``delta`` is against the model it was trained from."""

    value: float
    n: int | None
    low: float | None
    high: float | None
    delta: float | None
    better: bool | None


@dataclass(frozen=True)
class Row:
    """One metric over the models."""

    label: str
    metric: str
    task: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Results:
    """Everything that is compared between two runs: equal artifacts give equal results."""

    targets: tuple[Target, ...]
    summary: tuple[Row, ...]
    sft_validation: Flatness | None
    rl_gain: Gain | None
    models: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Any]
    compression: tuple[Mapping[str, Any], ...]
    samples: Mapping[str, Any]
    digests: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def build_results(evidence: Evidence) -> Results:
    """Everything the report says, apart from how and where it ran."""
    trainings, evaluations = evidence.trainings, evidence.evaluations
    flatness = flatness_of(trainings.get("sft"))
    gain = gain_of(evaluations.get("sft"), evaluations.get("rl"), HARD)
    return Results(
        targets=judge(evaluations, flatness, gain),
        summary=summary_table(evaluations),
        sft_validation=flatness,
        rl_gain=gain,
        models={
            model: {"steps": it.steps, "tokens": it.tokens, "parameters": it.parameters, **it.shape}
            for model, it in trainings.items()
        },
        curves={
            model: {"train": it.train, "val": it.val, "val_metric": it.val_metric}
            for model, it in trainings.items()
        },
        data={
            "source": evidence.source,
            "packages": evidence.packages,
            "splits": {name: asdict(split) for name, split in evidence.splits.items()},
        },
        compression=evidence.compression,
        samples={model: [asdict(it) for it in each.samples] for model, each in evaluations.items()},
        digests=evidence.digests,
    )


def summary_table(evaluations: Mapping[str, Evaluation]) -> tuple[Row, ...]:
    """A row for each (task, metric); numbers about the whole model come first."""
    keys = {(metric.task, metric.name) for each in evaluations.values() for metric in each.metrics}
    # Where an answer has to end and name its subject, that is what accuracy means: one row is enough.
    keys -= {(task, "accuracy") for task, name in keys if name == "named"}
    return tuple(_row(task, name, evaluations) for task, name in sorted(keys))


def _row(task: str, name: str, evaluations: Mapping[str, Evaluation]) -> Row:
    cells: dict[str, Cell] = {}
    before: Metric | None = None
    for model in MODELS:
        metric = evaluations[model].metric(name, task) if model in evaluations else None
        if metric is None:
            continue
        delta = round(metric.value - before.value, 6) if before else None
        better = None if not delta else (delta < 0) == (name in LOWER_IS_BETTER)
        cells[model] = Cell(metric.value, metric.n, metric.low, metric.high, delta, better)
        before = metric
    return Row(LABELS.get(name, name), name, task, cells)
