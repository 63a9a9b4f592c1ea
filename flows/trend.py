"""How a model under an alias did, night after night, and whether a change is worse than chance explains.

A night's result is a version of ``eval/NAME-KIND-ALIAS``, and the history of its alias ``latest`` says when
which was newest. A night on which the model and what it is asked are the same adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from artifacts.ref import LATEST, ArtifactRef
from artifacts.store import Store
from nanochat.report.comparisons import gain_of
from nanochat.report.evidence import Evaluation, read_evaluation

SIGNIFICANT = 0.05
BPB = "val_bpb"


@dataclass(frozen=True)
class Night:
    """One evaluation: when it became the newest, of which model."""

    time: str
    ref: ArtifactRef
    model: str
    evaluation: Evaluation


@dataclass(frozen=True)
class Regression:
    """A number that is worse than before. ``p_value``: exact McNemar test, None for bits per byte."""

    task: str
    before: float
    after: float
    p_value: float | None
    since: ArtifactRef

    def __str__(self) -> str:
        how = "" if self.p_value is None else f", p = {self.p_value:.2g}"
        return f"{self.task}: {self.before:.4g} → {self.after:.4g} since {self.since}{how}"


def nights(store: Store, ref: ArtifactRef, views: Path, last: int) -> list[Night]:
    """The last so many results of ``ref``'s name, oldest first. What gc has taken is left out."""
    alias = store.names.alias(ref.kind, ref.name, LATEST)
    found: list[Night] = []
    for entry in (alias.history if alias else ())[-last:]:
        its_ref = ArtifactRef(ref.kind, ref.name, version=entry["version"])
        version = store.names.version(its_ref)
        if version is None or version.pointer.digest != entry["digest"]:
            continue
        manifest = store.manifest(version.pointer)
        model = next(parent.ref for parent in manifest.parents if parent.role == "model")
        evaluation = read_evaluation(store.checkout(manifest, views), samples=0)
        found.append(Night(entry["time"], its_ref, model, evaluation))
    return found


def regressions(history: list[Night], *, bpb_tolerance: float) -> list[Regression]:
    """What is worse in the last night than in the one before, or in the best one of its task.

    A task: if McNemar's test on the problems that both were given says so (p < 0.05). Bits per byte: if
    they rose by more than the tolerance.
    """
    if len(history) < 2:
        return []
    *before, now = history
    found: dict[str, Regression] = {}
    for task in now.evaluation.correct:
        for night in {id(night): night for night in (before[-1], _best(before, task))}.values():
            gain = gain_of(night.evaluation, now.evaluation, task)
            if gain and gain.lost > gain.gained and gain.p_value < SIGNIFICANT:
                found.setdefault(task, Regression(task, gain.before, gain.after, gain.p_value, night.ref))
    measured = [(night, metric.value) for night in before if (metric := night.evaluation.metric(BPB))]
    if (bpb := now.evaluation.metric(BPB)) and measured:
        night, value = min(measured, key=lambda item: item[1])
        if bpb.value > value + bpb_tolerance:
            found[BPB] = Regression(BPB, value, bpb.value, None, night.ref)
    return list(found.values())


def _best(history: list[Night], task: str) -> Night:
    def share(night: Night) -> float:
        solved = night.evaluation.correct.get(task, {})
        return sum(solved.values()) / len(solved) if solved else -1.0

    return max(history, key=share)
