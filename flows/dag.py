"""THE DAG: one line a stage. What runs, what it makes, and what it reads.

Adding a stage is one file in ``nanochat/stages/`` and one line here. This module imports nothing
heavy, so that ``nanochat plan`` and a fully cached run never pay for Prefect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.suggest import unknown


@dataclass(frozen=True)
class Needs:
    """What a process of a stage takes of a machine."""

    gpus: int = 0
    cpus: int = 1
    memory_gb: int = 1


GPU = Needs(gpus=1, cpus=2, memory_gb=4)


@dataclass(frozen=True)
class Stage:
    """One step: a program in ``nanochat/stages``, the kind of artifact it makes, role -> source stage.

    ``needs``: of each rank. Where that is decides ``flows/dispatch/pools.py``.
    """

    id: str
    program: str
    kind: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    torchrun: bool = False
    mapped: bool = False
    needs: Needs = Needs()

    @property
    def module(self) -> str:
        """What ``python -m`` runs."""
        return f"nanochat.stages.{self.program}"

    def artifact(self, name: str) -> str:
        """``kind/name`` of what this stage publishes; an evaluation also says which model it judges."""
        suffix = f"-{self.id.removeprefix('eval-')}" if self.kind == "eval" else ""
        return f"{self.kind}/{name}{suffix}"


def _training(kind: str, inputs: Mapping[str, str]) -> Stage:
    return Stage(kind, kind, kind, inputs, torchrun=True, needs=GPU)


def _evaluation(model: str) -> Stage:
    inputs = {"model": model, "tokens": "tokenize", "shards": "shards"}
    return Stage(f"eval-{model}", "evaluate", "eval", inputs, needs=GPU)


_EVERYTHING = {
    "shards": "shards", "tokenizer": "tokenizer", "tokens": "tokenize",
    "base": "base", "mid": "mid", "sft": "sft", "rl": "rl",
    "eval-base": "eval-base", "eval-mid": "eval-mid", "eval-sft": "eval-sft", "eval-rl": "eval-rl",
}  # fmt: skip

STAGES: tuple[Stage, ...] = (
    Stage("shards", "shards", "shards"),
    Stage("tokenizer", "tokenizer", "tokenizer", {"shards": "shards"}),
    Stage("tokenize", "tokenize", "tokens", {"shards": "shards", "tokenizer": "tokenizer"}, mapped=True),
    _training("base", {"tokens": "tokenize", "tokenizer": "tokenizer"}),
    _evaluation("base"),
    _training("mid", {"model": "base", "shards": "shards"}),
    _evaluation("mid"),
    _training("sft", {"model": "mid", "shards": "shards"}),
    _evaluation("sft"),
    _training("rl", {"model": "sft", "shards": "shards"}),
    _evaluation("rl"),
    Stage("report", "report", "report", _EVERYTHING),
)

STAGE_IDS: tuple[str, ...] = tuple(stage.id for stage in STAGES)
GROUPS: dict[str, tuple[str, ...]] = {
    "evaluate": tuple(stage.id for stage in STAGES if stage.kind == "eval"),
    "shards": ("shards", "fetch-shard"),
    "tokenize": ("tokenize", "tokenize-shard"),
}


def stage_by_id(stage_id: str) -> Stage:
    """The stage of that id. Raises UsageError with a did-you-mean."""
    for stage in STAGES:
        if stage.id == stage_id:
            return stage
    raise unknown("stage", stage_id, STAGE_IDS)


def until(stage_id: str | None) -> tuple[Stage, ...]:
    """The stages in order, up to and including ``stage_id`` (None: all)."""
    last = STAGES.index(stage_by_id(stage_id)) if stage_id else len(STAGES) - 1
    return STAGES[: last + 1]


def expand(names: list[str]) -> set[str]:
    """Stage ids of ``names``, where ``evaluate`` stands for all evaluations. Raises UsageError."""
    parts = ("fetch-shard", "tokenize-shard")  # a damaged one is named with its own stage
    known = (*STAGE_IDS, "evaluate", *parts)
    for name in names:
        if name not in known:
            raise unknown("stage", name, known)
    return {stage_id for name in names for stage_id in GROUPS.get(name, (name,))}
