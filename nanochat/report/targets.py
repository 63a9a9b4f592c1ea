"""What the demo has to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nanochat.report.comparisons import Flatness, Gain
from nanochat.report.evidence import Evaluation, Metric
from nanochat.report.formatting import ABSENT, interval, number

EASY, HARD, DOCS = "arithmetic/easy", "arithmetic/hard", "docs"
MAX_BASE_BPB = 2.0
MIN_EASY, MIN_EASY_PROBLEMS = 0.60, 500
FLAT_SPREAD = 0.02
HARD_START = (0.20, 0.80)
MAX_P_VALUE = 0.01
MIN_NAMED, MIN_DOCS_PROBLEMS = 0.80, 200


@dataclass(frozen=True)
class Target:
    """Something that had to be reached. ``met`` None: it was not measured."""

    what: str
    wanted: str
    measured: str
    met: bool | None


def judge(
    evaluations: Mapping[str, Evaluation], flatness: Flatness | None, gain: Gain | None
) -> tuple[Target, ...]:
    """Every target, in the order of the pipeline."""

    def metric(model: str, name: str, task: str = "") -> Metric | None:
        return evaluations[model].metric(name, task) if model in evaluations else None

    return (
        _base_reads(metric("base", "val_bpb")),
        _at_least(
            "SFT solves one-step calculator problems",
            metric("sft", "accuracy", EASY),
            MIN_EASY,
            MIN_EASY_PROBLEMS,
        ),
        _sft_is_flat(flatness),
        _hard_start(metric("sft", "accuracy", HARD)),
        _rl_gains(gain),
        _at_least(
            "SFT ends by itself and names the object asked for",
            metric("sft", "named", DOCS),
            MIN_NAMED,
            MIN_DOCS_PROBLEMS,
        ),
        _docs_learned(metric("base", "token_f1", DOCS), metric("sft", "token_f1", DOCS)),
    )


def _base_reads(bpb: Metric | None) -> Target:
    met = None if bpb is None else bpb.value < MAX_BASE_BPB
    return Target("Base predicts held-out text", f"bits per byte under {MAX_BASE_BPB}", describe(bpb), met)


def _at_least(what: str, metric: Metric | None, share: float, problems: int) -> Target:
    met = None if metric is None else metric.value >= share and (metric.n or 0) >= problems
    return Target(what, f"at least {share:.0%} of {problems} or more", describe(metric), met)


def _sft_is_flat(flatness: Flatness | None) -> Target:
    what, wanted = "SFT was not starved", f"last 3 validation points within {FLAT_SPREAD:.0%} of each other"
    if flatness is None:
        return Target(what, wanted, ABSENT, None)
    return Target(what, wanted, f"within {flatness.spread:.1%}", flatness.spread <= FLAT_SPREAD)


def _hard_start(metric: Metric | None) -> Target:
    low, high = HARD_START
    met = None if metric is None else low <= metric.value <= high
    return Target(
        "RL starts where there is something to gain",
        f"SFT solves {low:.0%} to {high:.0%} of two-step problems", describe(metric), met,
    )  # fmt: skip


def _rl_gains(gain: Gain | None) -> Target:
    what, wanted = "RL solves more two-step problems", f"paired McNemar p under {MAX_P_VALUE}"
    if gain is None:
        return Target(what, wanted, ABSENT, None)
    measured = f"{gain.before:.1%} → {gain.after:.1%}, p = {gain.p_value:.2g}, n = {gain.n:,}"
    return Target(what, wanted, measured, gain.after > gain.before and gain.p_value < MAX_P_VALUE)


def _docs_learned(base: Metric | None, sft: Metric | None) -> Target:
    what, wanted = "SFT answers documentation questions better than base", "token F1 intervals do not touch"
    if base is None or sft is None or base.high is None or sft.low is None:
        return Target(what, wanted, ABSENT, None)
    return Target(what, wanted, f"{describe(base)} → {describe(sft)}", sft.low > base.high)


def describe(metric: Metric | None) -> str:
    """A metric in one line: ``61.2% (57.1 – 65.1%), n = 500``."""
    if metric is None:
        return ABSENT
    span = interval(metric.name, metric.low, metric.high)
    span = f" ({span})" if span else ""
    return number(metric.name, metric.value) + span + (f", n = {metric.n:,}" if metric.n else "")
