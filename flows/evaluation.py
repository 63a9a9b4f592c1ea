"""Evaluations outside a pipeline run: any model, any tasks, as a cached artifact like every other."""

from __future__ import annotations

from collections.abc import Sequence

from artifacts.errors import UsageError
from artifacts.manifest import Manifest
from artifacts.names import Pointer
from artifacts.ref import ArtifactRef
from artifacts.store import Store
from flows.build import Builder, Work
from flows.dag import stage_by_id
from flows.identity import stage_recipe
from flows.result import StageResult, result_of
from flows.settings import Settings
from nanochat.config.pipeline import validated
from nanochat.stages.evaluate import EvaluateConfig

MODEL_KINDS = ("base", "mid", "sft", "rl")


def evaluation_work(
    store: Store,
    ref: str | ArtifactRef,
    *,
    label: str,
    tasks: Sequence[str] | None = None,
    num_problems: int | None = None,
) -> Work:
    """What it takes to evaluate a model; the result is named ``eval/NAME-KIND-label``.

    Without ``tasks`` and ``num_problems``, as the pipeline does. UsageError if ``ref`` is no model, or was
    made from no text of this store.
    """
    found, manifest = store.resolve(ref)
    if manifest.kind not in MODEL_KINDS:
        raise UsageError(f"{found} is no model", f"kinds that can be evaluated: {', '.join(MODEL_KINDS)}")
    stage = stage_by_id(f"eval-{manifest.kind}")
    chosen = {"stage": stage.id, "tasks": tasks and list(tasks), "num_problems": num_problems}
    config = validated("", EvaluateConfig, {key: value for key, value in chosen.items() if value is not None})
    inputs = {"model": result_of(manifest, "cached", str(found), seconds=0.0)}
    for role in ("tokens", "shards"):
        inputs[role] = _ancestor(store, manifest, role)
    recipe = stage_recipe(stage, config, {role: result.digest for role, result in inputs.items()})
    return Work(stage, config, inputs, f"{found.name}-{manifest.kind}-{label}", recipe)


def evaluation_builder(store: Store, work: Work, *, force: bool = False) -> Builder:
    """Builds that work."""
    forced = frozenset({work.stage.id} if force else ())
    return Builder(store, Settings(), {}, work.name or "", forced=forced)


def _ancestor(store: Store, manifest: Manifest, kind: str) -> StageResult:
    """The tokens or shards that a model descends from."""
    pending = [manifest]
    while pending:
        for parent in pending.pop(0).parents:
            above = store.manifest(Pointer.to_parent(parent))
            if above.kind == kind:
                return result_of(above, "cached", parent.ref, seconds=0.0)
            pending.append(above)
    raise UsageError(f"this model has no {kind} among its ancestors", "evaluate one that the pipeline made")
