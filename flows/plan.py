"""What a run would do, and why: which field, input or module changed since the newest artifact of a name."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

from artifacts.errors import ResourceError
from artifacts.fingerprint import explain
from artifacts.manifest import Manifest
from flows.build import Builder
from flows.dag import Stage, until
from flows.launch import threads
from flows.result import StageResult


@dataclass(frozen=True)
class Planned:
    """One stage of a plan. ``unknown``: it depends on an input that is not built yet."""

    stage: str
    status: Literal["cached", "run", "unknown"]
    artifact: str
    fingerprint: str | None
    reasons: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def line(self) -> dict[str, Any]:
        """The object that ``plan --json`` prints."""
        return {
            "stage": self.stage, "status": self.status, "artifact": self.artifact,
            "fingerprint": self.fingerprint, "reasons": self.reasons,
        }  # fmt: skip


def make_plan(builder: Builder, last: str | None = None) -> list[Planned]:
    """Every stage up to ``last``, in order. Nothing is built or written."""
    made: dict[str, StageResult] = {}
    return [_plan_stage(builder, stage, made) for stage in until(last)]


def _plan_stage(builder: Builder, stage: Stage, made: dict[str, StageResult]) -> Planned:
    artifact = stage.artifact(builder.name)
    newest = _newest(builder, artifact)
    missing = [role for role, source in stage.inputs.items() if source not in made]
    if missing:
        old = newest.recipe["inputs"] if newest else {}
        reasons = [{"what": "input", "name": role, "old": old.get(role), "new": None} for role in missing]
        return Planned(stage.id, "unknown", artifact, None, reasons)
    work = builder.work(stage, {role: made[source] for role, source in stage.inputs.items()})
    found = builder.find(work, publish=False)
    if found is None:
        reasons = explain(newest.recipe, work.recipe) if newest else []
        return Planned(stage.id, "run", artifact, work.fingerprint, reasons)
    made[stage.id] = found
    built = builder.store.manifest(found.pointer)
    if newest is not None and newest.digest == built.digest:
        artifact = str(builder.store.resolve(artifact)[0])
    return Planned(
        stage.id,
        "cached",
        artifact,
        work.fingerprint,
        [],
        differences(built, threads(builder.ranks if stage.torchrun else 1, builder.overlap)),
    )


def differences(built: Manifest, threads: str) -> list[str]:
    """How this machine's Python, torch and thread count differ from what built a cached artifact."""
    now = {"python": platform.python_version(), "torch": metadata.version("torch"), "threads": threads}
    then = {**built.provenance.versions, "threads": built.provenance.settings.get("threads")}
    return [
        f"{built.stage} was built with {what} {then[what]}, here it is {value}"
        for what, value in now.items()
        if then.get(what) is not None and str(then[what]) != str(value)
    ]


def _newest(builder: Builder, artifact: str) -> Manifest | None:
    try:
        return builder.store.resolve(artifact)[1]
    except ResourceError:
        return None
