"""``nanochat sweep``: a series of models, and what they say together."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

from cyclopts import Parameter

from flows.cli.options import Json, Name, Overrides, StoreUrl
from flows.cli.output import print_json, print_table
from flows.cli.run import interruptible
from flows.cli.watch import TerminalObserver
from flows.params import parse_overrides
from flows.sweep.params import Kind, Point, build_sweep_params, points_of
from flows.sweep.run import SweepOutcome, execute_sweep
from nanochat.config.derive import scaling_parameters
from nanochat.report.formatting import count
from nanochat.report.sweep import findings, flops_text, read_sweep, table

Several = Parameter(consume_multiple=True, negative="")


def sweep(
    preset: str,
    /,
    *,
    depths: Annotated[list[int], Several],
    kind: Kind | None = None,
    flops: Annotated[list[float] | None, Several] = None,
    overrides: Overrides = None,
    evaluate: Annotated[bool, Parameter(negative="")] = False,
    at_once: int = 2,
    name: Name = None,
    store: StoreUrl = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> int:
    """Train a model of each depth, or of each depth for each FLOPs budget, and fit what they say together.

    Models that are trained already are found. One that fails does not end the others; the same command
    then trains what is missing.

    Parameters
    ----------
    preset
        Where the text comes from, and all that is not swept; nanochat presets lists them.
    depths
        Depths of the models, for example 12 14 16.
    kind
        miniseries: each depth with the tokens that suit it; scaling-laws: each depth for each budget.
        Default: scaling-laws if there are budgets.
    flops
        Training FLOPs of each budget, for example 1e18 2.15e18.
    evaluate
        Also ask each model the evaluation's questions.
    at_once
        Models trained side by side where work pools take them.
    dry_run
        Only say what would be trained.
    """
    params = build_sweep_params(
        preset=preset, kind=kind or ("scaling-laws" if flops else "miniseries"), depths=depths,
        flops_budgets=flops or [], set=parse_overrides(overrides or []), evaluate=evaluate, at_once=at_once,
        name=name, store=store,
    )  # fmt: skip
    if dry_run:
        _show_plan(points_of(params), json)
        return 0
    with interruptible():
        outcome = execute_sweep(params, TerminalObserver())
    _show(outcome, json)
    return 0


def _show_plan(points: list[Point], as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "model": point.role, "parameters": scaling_parameters(point.base.model),
            "tokens": point.base.steps * point.base.batch_tokens, "steps": point.base.steps,
            "flops": point.flops,
        }
        for point in points
    ]  # fmt: skip
    if as_json:
        print_json({"models": rows, "flops": sum(row["flops"] for row in rows)})
        return
    print_table(
        ("model", "parameters", "tokens", "tokens/parameter", "steps", "FLOPs"),
        [
            (row["model"], count(row["parameters"]), count(row["tokens"]),
             f"{row['tokens'] / row['parameters']:.3g}", f"{row['steps']:,}", flops_text(row["flops"]))
            for row in rows
        ],
    )  # fmt: skip
    print(f"{len(rows)} models, {flops_text(sum(row['flops'] for row in rows))} FLOPs; nothing was trained")


def _show(outcome: SweepOutcome, as_json: bool) -> None:
    last = outcome.results[-1]
    if as_json:
        said = jsonlib.loads((outcome.folder / "sweep.json").read_text(encoding="utf-8"))
        print_json({"artifact": last.artifact, "status": last.status, "page": str(outcome.page), **said})
        return
    sweep = read_sweep(outcome.folder)
    print_table(*table(sweep))
    print("\n".join(findings(sweep)))
    print(f"{last.artifact}: {outcome.page}")
