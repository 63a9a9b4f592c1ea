"""``nanochat lr-find``: the learning rate at which a fresh model learns fastest, by a range test."""

from __future__ import annotations

import json as jsonlib

from flows.cli.options import Json, Name, Overrides, StoreUrl
from flows.cli.output import print_json
from flows.cli.run import interruptible
from flows.cli.watch import TerminalObserver
from flows.lr_find import find_lr
from flows.params import build_params
from nanochat.report.lr_curve import LRCurve, chart


def lr_find(
    preset: str,
    /,
    *,
    steps: int | None = None,
    low: float | None = None,
    high: float | None = None,
    overrides: Overrides = None,
    name: Name = None,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Train a fresh model while all learning rates grow, and say where its loss falls fastest.

    It is pretraining on the preset's text, which is built if need be, but for the rates: they begin at
    --low times their defaults and end at --high times. The same test is found and not run again.

    Parameters
    ----------
    preset
        Which model; nanochat presets lists them.
    steps
        Steps of the ramp; default 100.
    low
        lr_scale at the first step; default 0.01.
    high
        lr_scale at the last step; default 100.
    """
    params = build_params(preset, overrides=overrides or [], name=name, store=store)
    ramp = {
        key: value for key, value in (("steps", steps), ("low", low), ("high", high)) if value is not None
    }
    with interruptible():
        builder, result = find_lr(params, ramp, TerminalObserver())
    found = jsonlib.loads((builder.checkout(result) / "lr_find.json").read_text(encoding="utf-8"))
    if json:
        print_json({"artifact": result.artifact, "status": result.status, **found})
        return 0
    curve = LRCurve(tuple(found["scales"]), tuple(found["losses"]))
    print("loss (smoothed) over lr_scale\n" + chart(curve))
    print(f"* falls fastest at {found['steepest']:.3g}")
    print(f"^ is lowest at     {found['lowest']:.3g}")
    if found["diverged"] is None:
        print("  does not diverge within the ramp: try a larger --high")
    else:
        print(f"x diverges at      {found['diverged']:.3g}")
    used = builder.configs["base"].optim.lr_scale  # type: ignore[attr-defined]
    print(f"suggestion: --set base.optim.lr_scale={found['suggestion']:.2g} (this preset has {used:.2g})")
    print(result.artifact)
    return 0
