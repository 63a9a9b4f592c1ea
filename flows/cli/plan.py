"""``nanochat plan``: what is cached, what would run, and why."""

from __future__ import annotations

import sys
from typing import Any

from flows.cli.options import Force, Json, Name, Overrides, Reuse, StoreUrl, Until
from flows.cli.output import print_json, print_table
from flows.params import build_params
from flows.plan import Planned, make_plan
from flows.run import open_builder


def plan(
    preset: str,
    /,
    *,
    overrides: Overrides = None,
    name: Name = None,
    store: StoreUrl = None,
    until: Until = None,
    force: Force = None,
    reuse: Reuse = None,
    json: Json = False,
) -> int:
    """Say what is cached, what would run, and which field, input or module changed. Nothing is built.

    Parameters
    ----------
    preset
        What to train; nanochat presets lists them.
    """
    params = build_params(
        preset, overrides=overrides or [], name=name, store=store, until=until, force=force, reuse=reuse
    )
    stages = make_plan(open_builder(params), params.until)
    if json:
        print_json({"preset": preset, "stages": [stage.line() for stage in stages]})
    else:
        print_table(
            ("stage", "status", "artifact", "why"),
            [(stage.stage, stage.status, stage.artifact, _why(stage, params.forced)) for stage in stages],
        )
    for warning in dict.fromkeys(line for stage in stages for line in stage.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _why(stage: Planned, forced: frozenset[str]) -> str:
    if stage.status == "cached":
        return ""
    if stage.status == "unknown":
        return "waits for " + ", ".join(reason["name"] for reason in stage.reasons)
    return "; ".join(map(_reason, stage.reasons)) or ("forced" if stage.stage in forced else "never built")


def _reason(reason: dict[str, Any]) -> str:
    name, old, new = reason["name"], reason["old"], reason["new"]
    if reason["what"] == "field":
        return f"{name}: {_short(old)} → {_short(new)}"
    change = "added" if old is None else "removed" if new is None else "changed"
    return f"{reason['what']} {name} {change}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
