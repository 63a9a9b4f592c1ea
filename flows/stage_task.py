"""The one generic stage task: what ``flows/build.py`` does, as Prefect shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.tasks import MaterializingTask

from flows.build import Builder, Work
from flows.dag import Stage, stage_by_id
from flows.dispatch import placement
from flows.launch import STOP, StageKilled
from flows.observe import OBSERVER, Observer, Observers
from flows.publish import LogObserver, PrefectObserver
from flows.result import StageResult
from flows.shard_map import SHARD_STAGE, shard_entries, shard_work

if TYPE_CHECKING:
    from flows.dispatch.mapped import Workers

Ref = dict[str, Any]


def stage_task(builder: Builder, stage: Stage, elsewhere: Callable[..., Any] | None = None) -> Task[..., Any]:
    """The task of one stage. Takes role -> ref, and the refs of the parts it is put together from.

    Also takes role -> ref of what its program reads besides, which is not part of its identity.
    ``elsewhere``: what does it in a process without this builder, and its own parameters.
    """

    def build(
        inputs: dict[str, Ref], parts: list[Ref] | None = None, folders: dict[str, Ref] | None = None
    ) -> State[Any] | Ref:
        work = builder.work(stage, _validated(inputs))
        work = replace(work, folders=_validated(folders or {}))
        return state_of(builder, work, None if parts is None else [StageResult(**part) for part in parts])

    artifact = stage.artifact(builder.name)
    return MaterializingTask(
        elsewhere or build, assets=[_asset(artifact)], materialized_by="nanochat",
        asset_deps=[_asset(stage_by_id(source).artifact(builder.name)) for source in stage.inputs.values()],
        **_options(stage.id, f"{stage.id} {_depth(builder)}{artifact}", _tags(builder, stage)),
    )  # fmt: skip


def shard_task(builder: Builder, build: Callable[..., Any], part: Stage = SHARD_STAGE) -> Task[..., Any]:
    """The task of one shard. Takes what ``build`` takes, of which ``entry`` says which shard."""
    return Task[..., Any](build, **_options(part.id, "{entry[path]}", _tags(builder, part)))


def shard_tasks(
    builder: Builder,
    stage: Stage,
    inputs: Mapping[str, PrefectFuture[Any]],
    others: Workers | None = None,
) -> list[PrefectFuture[Any]] | None:
    """One mapped task a shard, done by ``others`` if given; None if the whole is built already."""
    refs = {role: future.result() for role, future in inputs.items()}
    known = _validated(refs)
    work = builder.work(stage, known)
    if builder.find(work):
        return None

    def tokenize_shard(entry: dict[str, Any]) -> State[Any] | Ref:
        return state_of(builder, shard_work(builder, entry, known))

    if others:
        mapped = others.shards(work)
    else:
        mapped = list(shard_task(builder, tokenize_shard).map(shard_entries(builder, known)))
    for part in mapped:
        part.result()  # raises what it failed of; the stage that waits for it would only say "pending"
    return mapped


def results_of(made: Mapping[str, PrefectFuture[Any]]) -> list[StageResult]:
    """Wait for every stage. Raises what the first failed one raised."""
    return [StageResult(**future.result()) for future in made.values()]


def build_task(builder: Builder, work: Work) -> Task[..., Any]:
    """The task of work that no stage of the pipeline asks for. Takes nothing."""

    def build() -> State[Any] | Ref:
        return state_of(builder, work)

    run_name = f"{work.stage.id} {work.stage.kind}/{work.name}"
    return Task[..., Any](build, **_options(work.stage.id, run_name, _tags(builder, work.stage)))


@contextmanager
def stopping_children() -> Iterator[None]:
    """If the flow fails or is cancelled within, what still runs saves its work and exits first."""
    try:
        yield
    except BaseException:
        STOP.pull()
        raise


def state_of(builder: Builder, work: Work, parts: list[StageResult] | None = None) -> State[Any] | Ref:
    """How a task ends: the ref of what it built, as Cached if it was there; Prefect is shown the rest."""
    observer = Observers(OBSERVER.get(), _shown(builder, work))
    result = placement.build(builder, work, observer, parts)
    observer.finished(result)
    if result.status == "cached":
        return Completed(
            name="Cached", message=f"{result.artifact} is built already", data=result.model_dump()
        )
    return result.model_dump()


def _shown(builder: Builder, work: Work) -> Observer:
    if work.name is None:
        return LogObserver()
    parents = [parent.artifact for parent in work.inputs.values()]
    return PrefectObserver(work.stage.id, builder.name, parents, web_url=builder.settings.web_url)


def _options(name: str, run_name: str, tags: list[str]) -> Any:
    return {
        "name": name, "task_run_name": run_name, "tags": tags, "persist_result": False,
        "cache_policy": NO_CACHE, "retries": 1, "retry_delay_seconds": 5,
        "retry_condition_fn": _is_worth_retrying,
    }  # fmt: skip


def _asset(artifact: str) -> str:
    """The key of what a stage makes, for Prefect's own lineage: a decoration, kept for a week."""
    return f"nanochat://{artifact}"


def _is_worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Only what came from outside; a stage that failed by itself would fail again."""
    return isinstance(state.data, StageKilled) or isinstance(getattr(state.data, "result", None), StageKilled)


def _validated(inputs: Mapping[str, Ref]) -> dict[str, StageResult]:
    return {role: StageResult(**ref) for role, ref in inputs.items()}


def _tags(builder: Builder, stage: Stage) -> list[str]:
    return ["nanochat", stage.kind, builder.name, *(["torchrun"] if stage.torchrun else [])]


def _depth(builder: Builder) -> str:
    return f"d{builder.depth} " if builder.depth else ""
