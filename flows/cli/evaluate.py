"""``nanochat eval``: measure any model, as a cached artifact like every other."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

from cyclopts import Parameter

from flows.cli.opening import open_store
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json, print_table
from flows.cli.run import interruptible
from flows.cli.watch import TerminalObserver
from flows.evaluation import evaluation_builder, evaluation_work
from flows.result import StageResult


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
    opened = open_store(store)
    work = evaluation_work(opened, ref, label="custom", tasks=tasks, num_problems=num_problems)
    builder = evaluation_builder(opened, work, force=force)
    with interruptible():
        result = builder.build(work, TerminalObserver())
    _print(jsonlib.loads((builder.checkout(result) / "results.json").read_text("utf-8")), result, json)
    return 0


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
