"""``nanochat eval``: measure any model, as a cached artifact like every other."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

from cyclopts import Parameter

from artifacts.errors import UsageError
from artifacts.manifest import Manifest
from artifacts.store import Store
from flows.build import Builder, Work
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json, print_table
from flows.cli.run import interruptible
from flows.cli.watch import TerminalObserver
from flows.dag import Stage
from flows.identity import stage_recipe
from flows.result import StageResult, result_of
from flows.settings import Settings
from nanochat.config.pipeline import validated

MODEL_KINDS = ("base", "mid", "sft", "rl")


def evaluate(
    ref: str,
    /,
    *,
    tasks: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    num_problems: int | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Evaluate a model on held-out problems; a repeated evaluation is found and not run again.

    Parameters
    ----------
    ref
        The model, for example sft/demo@v1.
    tasks
        Tasks, for example arithmetic/easy docs; default: those of the pipeline.
    num_problems
        Problems of each task.
    force
        Evaluate again although the result is there already.
    """
    from nanochat.stages.evaluate import EvaluateConfig

    opened = Store.open(store or "", create=False)
    found, manifest = opened.resolve(ref)
    if manifest.kind not in MODEL_KINDS:
        raise UsageError(f"{found} is no model", f"kinds that can be evaluated: {', '.join(MODEL_KINDS)}")
    stage = _stage(manifest.kind)
    chosen = {"stage": stage.id, "tasks": tasks, "num_problems": num_problems}
    config = validated("", EvaluateConfig, {key: value for key, value in chosen.items() if value is not None})
    inputs = {"model": result_of(manifest, "cached", str(found), seconds=0.0)}
    for role in ("tokens", "shards"):
        inputs[role] = _ancestor(opened, manifest, role)
    recipe = stage_recipe(stage, config, {role: result.digest for role, result in inputs.items()})
    work = Work(stage, config, inputs, f"{found.name}-{manifest.kind}-custom", recipe)
    builder = Builder(opened, Settings(), {}, found.name, forced=frozenset({stage.id} if force else ()))
    with interruptible():
        result = builder.build(work, TerminalObserver())
    _print(jsonlib.loads((builder.checkout(result) / "results.json").read_text("utf-8")), result, json)
    return 0


def _stage(kind: str) -> Stage:
    return Stage(f"eval-{kind}", "evaluate", "eval")


def _ancestor(store: Store, manifest: Manifest, kind: str) -> StageResult:
    """The tokens or shards that a model descends from."""
    from artifacts.names import Pointer

    pending = [manifest]
    while pending:
        for parent in pending.pop(0).parents:
            above = store.manifest(Pointer(parent.role, parent.manifest, parent.digest))
            if above.kind == kind:
                return result_of(above, "cached", parent.ref, seconds=0.0)
            pending.append(above)
    raise UsageError(f"this model has no {kind} among its ancestors", "evaluate one that the pipeline made")


def _print(results: dict[str, object], result: StageResult, as_json: bool) -> None:
    if as_json:
        print_json({"artifact": result.artifact, "status": result.status, **results})
        return
    metrics = results["metrics"]
    assert isinstance(metrics, list)
    print_table(
        ("metric", "task", "split", "value", "n", "interval"),
        [
            (m["name"], m["task"] or "", m["split"] or "", f"{m['value']:.4g}", str(m["n"] or ""),
             "" if m["ci_low"] is None else f"{m['ci_low']:.4g} to {m['ci_high']:.4g}")
            for m in metrics
        ],
    )  # fmt: skip
    print(result.artifact)
