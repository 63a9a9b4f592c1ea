"""Stage ``sweep``: the models of a sweep in, what they say together out (JSON, CSV, a page, a picture)."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import Field

from nanochat.config.base import Config
from nanochat.runtime import StageContext, Summary, stage_main

VERSION = 1
TEMPLATES = ("sweep.html.j2", "page.css")


class SweepConfig(Config):
    """What the models have in common, and what each was trained with."""

    kind: Literal["miniseries", "scaling-laws"] = Field(
        description="miniseries: a model a depth; scaling-laws: models of several depths for each budget"
    )
    title: str = Field("nanochat sweep", min_length=1, max_length=200, description="heading of the page")
    budgets: dict[str, float] = Field({}, description="role of a model -> the training FLOPs it was given")


def identity_extra(config: SweepConfig) -> dict[str, str]:
    """Name -> sha256 of each template: they decide what the page looks like, and no import leads to them."""
    folder = Path(__file__).parent.parent / "report" / "templates"
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in TEMPLATES}


def run(ctx: StageContext, config: SweepConfig) -> Summary:
    """Write sweep.json, sweep.csv, sweep.html and sweep.png.

    Inputs: ``tokens``; each model under its role; its evaluation, if it had one, under ``eval-ROLE``.
    """
    from nanochat.report.sweep import Sweep, read_points
    from nanochat.report.sweep_page import write_sweep

    sweep = Sweep.of(config.kind, read_points(ctx.inputs, config.budgets))
    write_sweep(ctx.output, config.title, sweep)
    best = min(point.val_bpb for point in sweep.points)
    metrics: dict[str, float | int | str] = {"models": len(sweep.points), "best_val_bpb": best}
    metrics |= {f"{what}_exponent": law.exponent for what, law in sweep.laws.items()}
    if sweep.tokens_per_parameter is not None:
        metrics["tokens_per_parameter"] = sweep.tokens_per_parameter
    key = "tokens_per_parameter" if "tokens_per_parameter" in metrics else "best_val_bpb"
    return Summary(metrics=metrics, key_metric=key)


if __name__ == "__main__":
    stage_main("sweep", SweepConfig, run)
