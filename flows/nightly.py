"""Evaluations as Prefect flows: one model on demand, and every night whatever the aliases point to."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, Field

from artifacts.errors import UsageError
from artifacts.ref import ArtifactRef
from artifacts.store import Store
from flows.evaluation import MODEL_KINDS, evaluation_builder, evaluation_work
from flows.params import OptionalText
from flows.picture import trend_markdown
from flows.result import StageResult
from flows.settings import Settings
from flows.stage_task import build_task, stopping_children
from flows.trend import BPB, Night, Regression, nights, regressions

REGRESSED = "nanochat.evaluation.regressed"


class EvaluateParams(BaseModel):
    """Which model to evaluate, on what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(title="Model", description="For example rl/demo, rl/demo@prod or sft/demo@v2.")
    tasks: list[str] = Field([], title="Tasks", description="For example arithmetic/hard; none: the usual.")
    num_problems: int | None = Field(
        None, ge=1, title="Problems", description="Of each task; none: the usual."
    )
    store: OptionalText = Field("", title="Store", description="URL or folder; default: $NANOCHAT_STORE.")


class NightlyParams(BaseModel):
    """Which models to evaluate every night, on what, and what to do if one got worse."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: list[str] = Field(["rl/demo"], title="Models", description="kind/name, for example rl/demo.")
    aliases: list[str] = Field(
        ["prod", "latest"], title="Aliases", description="Those that a model lacks are passed over."
    )
    tasks: list[str] = Field([], title="Tasks", description="For example arithmetic/hard; none: the usual.")
    num_problems: int | None = Field(
        None, ge=1, title="Problems", description="Of each task; none: the usual."
    )
    on_regression: Literal["fail", "warn"] = Field(
        "fail", title="If a model got worse", description="Fail the run, or complete it with a warning."
    )
    bpb_tolerance: float = Field(
        0.01, ge=0, title="Bits per byte", description="A rise by more than this is a regression."
    )
    nights: int = Field(30, ge=2, title="Nights", description="How many to compare with and to draw.")
    store: OptionalText = Field("", title="Store", description="URL or folder; default: $NANOCHAT_STORE.")


@flow(name="evaluate", flow_run_name="{params.model}", persist_result=False)
def evaluate(params: EvaluateParams) -> dict[str, Any]:
    """Evaluate one model. What was evaluated before is found, not repeated."""
    store = Store.open(params.store, create=False)
    with stopping_children():
        return _evaluated(store, params.model, "custom", params.tasks, params.num_problems).model_dump()


@flow(name="nightly-eval", persist_result=False)
def nightly_eval(params: NightlyParams) -> State[Any]:
    """Evaluate what the aliases point to and compare it with the nights before."""
    store = Store.open(params.store, create=False)
    worse: list[Regression] = []
    with stopping_children():
        for ref in aliased(store, params):
            result = _evaluated(store, str(ref), ref.alias or "", params.tasks, params.num_problems)
            history = nights(store, ArtifactRef.parse(result.artifact), Settings().views, params.nights)
            found = regressions(history, bpb_tolerance=params.bpb_tolerance)
            _publish(ref, history, found)
            worse += found
    if not worse:
        return Completed(message="no model got worse")
    message = "; ".join(map(str, worse))
    if params.on_regression == "fail":
        return Failed(name="Regressed", message=message)
    return Completed(name="Regressed", message=message)


def aliased(store: Store, params: NightlyParams) -> list[ArtifactRef]:
    """The models that have the aliases. UsageError for what is no model, or if nothing is left."""
    found = []
    for text in params.models:
        model = ArtifactRef.parse(text)
        if model.kind not in MODEL_KINDS or "@" in text:
            raise UsageError(f"{text} names no model", "write kind/name, for example rl/demo")
        there = store.aliases(model.kind, model.name)
        found += [
            ArtifactRef(model.kind, model.name, alias=alias) for alias in params.aliases if alias in there
        ]
    if not found:
        names = ", ".join(params.models)
        raise UsageError(
            f"no alias {' or '.join(params.aliases)} of {names}", "nanochat art ls shows what there is"
        )
    return found


def _evaluated(store: Store, ref: str, label: str, tasks: list[str], num_problems: int | None) -> StageResult:
    work = evaluation_work(store, ref, label=label, tasks=tasks or None, num_problems=num_problems)
    task = build_task(evaluation_builder(store, work), work)
    return StageResult(**task.submit().result())


def _publish(ref: ArtifactRef, history: list[Night], worse: list[Regression]) -> None:
    """The nights as a table and a picture, and an event for each number that got worse."""
    key = re.sub(r"[^a-z0-9]+", "-", f"nightly-{ref}".lower())
    rows = [
        {"night": night.time, "model": night.model, "evaluation": str(night.ref)} | _numbers(night)
        for night in reversed(history)
    ]
    _try(lambda: create_table_artifact(key=key, table=rows, description=f"{ref}, newest first"))
    if picture := trend_markdown(history, str(ref)):
        said = "\n".join(f"- **worse**: {item}" for item in worse)
        _try(lambda: create_markdown_artifact(key=f"{key}-trend", markdown=f"{said}\n\n{picture}"))
    for item in worse:
        get_run_logger().warning("%s got worse: %s", ref, item)
        resource = {
            "prefect.resource.id": f"nanochat.model.{ref.kind}.{ref.name}",
            "prefect.resource.name": str(ref),
        }
        emit_event(REGRESSED, resource, payload={
            "task": item.task, "before": item.before, "after": item.after, "p_value": item.p_value,
            "since": str(item.since),
        })  # fmt: skip


def _numbers(night: Night) -> dict[str, float]:
    shown = [metric for metric in night.evaluation.metrics if metric.name in ("accuracy", BPB)]
    return {metric.task or metric.name: metric.value for metric in shown}


def _try(publish: Callable[[], Any]) -> None:
    try:
        publish()
    except Exception as error:
        get_run_logger().warning("not published: %s", error)
