"""A learning-rate range test as a cached artifact. What it trains on is found, or built without Prefect."""

from __future__ import annotations

from typing import Any

from artifacts.errors import UsageError
from flows.build import Builder, Work
from flows.dag import GPU, Stage, until
from flows.dispatch.cluster import Cluster
from flows.identity import stage_recipe
from flows.observe import Observer
from flows.params import PipelineParams
from flows.result import StageResult
from flows.run import open_builder
from nanochat.config.pipeline import validated
from nanochat.stages.lr_find import LRFindConfig

LR_FIND = Stage(
    "lr-find", "lr_find", "report", {"tokens": "tokenize", "tokenizer": "tokenizer"}, torchrun=True, needs=GPU
)


def find_lr(params: PipelineParams, ramp: dict[str, Any], observer: Observer) -> tuple[Builder, StageResult]:
    """The result of a test of ``params``' base model, and the builder that checks it out.

    ``ramp``: fields of LRFindConfig. Raises UsageError before anything is built.
    """
    if Cluster.read().nodes > 1:
        raise UsageError("a range test runs on one node", "unset NANOCHAT_NODES")
    builder = open_builder(params)
    config = lr_find_config(builder.configs["base"], ramp)
    made: dict[str, StageResult] = {}
    for stage in until("tokenize"):
        work = builder.work(stage, {role: made[source] for role, source in stage.inputs.items()})
        made[stage.id] = builder.build(work, observer)
        observer.finished(made[stage.id])
    inputs = {role: made[source] for role, source in LR_FIND.inputs.items()}
    recipe = stage_recipe(LR_FIND, config, {role: result.digest for role, result in inputs.items()})
    work = Work(LR_FIND, config, inputs, f"{builder.name}-lr-find", recipe)
    return builder, builder.build(work, observer)


def lr_find_config(base: Any, ramp: dict[str, Any]) -> LRFindConfig:
    """The test of a base stage's model. What the ramp replaces is at its default: it changes nothing."""
    optim = base.optim.model_dump(exclude={"lr_scale", "schedule"})
    shared = (
        "batch_tokens", "micro_batch", "dtype", "seed", "shuffle_buffer", "crop", "activation_checkpointing",
    )  # fmt: skip
    values = {name: getattr(base, name) for name in shared}
    values |= {"model": base.model.model_dump(), "optim": optim}
    config: LRFindConfig = validated("", LRFindConfig, {**values, **ramp})
    return config
