"""Mapped work on the workers of a cluster: plain data goes there, refs come back.

A worker opens store and settings by itself, and does what the flow would do here: the same lookup, lease,
launch and commit. What the flow's tasks wait for are futures like those of its own threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import unmapped
from prefect.client.schemas.objects import State
from prefect.exceptions import UnfinishedRun
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.build import Builder, Work
from flows.dag import Stage
from flows.dispatch.fan_out import FanOut, fan_out_of
from flows.dispatch.parent import has_ended
from flows.dispatch.placement import pool_of
from flows.dispatch.stage_job import StageJob
from flows.launch import STOP, Interrupted, StageKilled
from flows.observe import OBSERVER, Observer
from flows.result import StageResult
from flows.shard_map import (
    FETCH_STAGE,
    SHARD_STAGE,
    fetch_entries,
    fetch_work,
    shard_entries,
    shard_work,
)
from flows.stage_task import Ref, shard_task, stage_task, state_of

_SWITCH_S = 0.3
_LOOK_S = 5.0


@contextmanager
def workers(builder: Builder) -> Iterator[Workers | None]:
    """The workers that ``NANOCHAT_FAN_OUT`` names, for the flow run within; None: its own threads."""
    fan_out = fan_out_of(builder.settings.fan_out, builder.store)
    if fan_out is None:
        yield None
        return
    made = Workers(fan_out, builder, str(flow_run.id))
    try:
        yield made
    except UnfinishedRun:  # all that Prefect says of a stage that waits for a failed one
        made.raise_failure()
        raise
    finally:
        made.close()


class Workers:
    """The workers of a cluster, for one run. It is not reached before there is work for it."""

    def __init__(self, fan_out: FanOut, builder: Builder, run_id: str) -> None:
        self.away = fan_out.away
        self._fan_out, self._builder, self._run_id = fan_out, builder, run_id
        self._place = fan_out.address or f"{fan_out.kind} on this machine"
        self._runner: Any = None
        self._stack = ExitStack()
        self._closed = threading.Event()
        self._awaited: list[PrefectConcurrentFuture[Any]] = []

    def shards(self, whole: Work) -> list[PrefectFuture[Any]]:
        """A task for each shard that ``whole``, the work of stage ``tokenize``, is put together from."""
        entries = shard_entries(self._builder, whole.inputs)
        return self._parts(whole, entries, SHARD_STAGE, build_shard)

    def downloads(self, stage: Stage) -> dict[str, PrefectFuture[Any]] | None:
        """The files that the stage ``shards`` takes from the hub: name -> task, which has ended.

        None for other stages, for text from elsewhere, and if the whole is built. Raises what the first
        failed one has raised.
        """
        entries = fetch_entries(self._builder) if stage.id == "shards" else []
        if not entries:
            return None
        whole = self._builder.work(stage, {})
        if self._builder.find(whole):
            return None
        fetched = self._parts(whole, entries, FETCH_STAGE, build_download)
        for future in fetched:
            future.result()
        return dict(zip((entry["path"] for entry in entries), fetched, strict=True))

    def evaluation(self, stage: Stage, inputs: Mapping[str, PrefectFuture[Any]]) -> PrefectFuture[Any] | None:
        """An evaluation that has to be done; None for other stages, and if a work pool has to do it."""
        if stage.kind != "eval" or pool_of(self._builder, stage):
            return None
        refs = {role: StageResult(**future.result()) for role, future in inputs.items()}
        work = self._builder.work(stage, refs)
        if self._builder.find(work):
            return None
        OBSERVER.get().started(stage.id, f"goes to {self._place}")
        task = stage_task(self._builder, stage, build_stage)
        return self._followed(self._started().submit(task, {"job": self._job(work)}))

    def raise_failure(self) -> None:
        """Raise what the first failed one has raised; nothing happens if none has."""
        for future in self._awaited:
            if future.wrapped_future.done():
                future.result()

    def close(self) -> None:
        """Leave the cluster. What is still awaited will not come any more."""
        self._closed.set()
        self._give_up()
        self._stack.close()

    def _started(self) -> Any:
        if self._runner is None:
            self._runner = self._stack.enter_context(self._fan_out.opened())
            threading.Thread(target=self._watch_the_switch, daemon=True).start()
        return self._runner

    def _watch_the_switch(self) -> None:
        """A run that is stopped waits for nobody; its end is what stops the workers."""
        while not self._closed.wait(_SWITCH_S):
            if STOP.pulls:
                self._give_up()

    def _give_up(self) -> None:
        error = Interrupted("the run was stopped", "the same command resumes it")
        for future in tuple(self._awaited):
            _settle(future.wrapped_future, Failed(message=str(error), data=error))

    def _parts(
        self, whole: Work, entries: list[dict[str, Any]], part: Stage, build: Callable[..., Any]
    ) -> list[PrefectFuture[Any]]:
        OBSERVER.get().started(whole.stage.id, f"{len(entries)} shards go to {self._place}")
        task = shard_task(self._builder, build, part)
        force = part.id in self._builder.forced
        parameters = {"entry": entries, "job": unmapped(self._job(whole)), "force": unmapped(force)}
        return [self._followed(future) for future in self._started().map(task, parameters)]

    def _job(self, work: Work) -> str:
        return StageJob.of(self._builder, work, self._run_id).model_dump_json()

    def _followed(self, remote: PrefectFuture[Any]) -> PrefectFuture[Any]:
        """The same, for tasks of the flow to wait for; whoever watches the run hears of its end."""
        arrived: Future[State[Any]] = Future()
        observer = OBSERVER.get()

        def arrive(_: object) -> None:
            try:
                state = self._end_of(remote)
                if state.is_completed():
                    observer.finished(StageResult(**remote.result()))
                _settle(arrived, state)
            except Exception as error:  # nobody else would see it, and all would wait for ever
                _settle(arrived, Failed(message=str(error), data=error))

        future = PrefectConcurrentFuture[Any](remote.task_run_id, arrived)
        self._awaited.append(future)
        remote.add_done_callback(arrive)
        return future

    def _end_of(self, remote: PrefectFuture[Any]) -> State[Any]:
        try:
            remote.result(raise_on_failure=False)
        except Exception as error:  # the cluster's own: what a task raises is in its state
            said = str(error).partition("\n")[0]
            lost = StageKilled(f"{self._place} lost a task: {said}", "the same command resumes it")
            return Failed(message=str(lost), data=lost)
        return remote.state


class EndsWithRun(Observer):
    """Ends a stage's process once the flow run that it is for has ended: a worker outlives that.

    Unlike others it raises: Interrupted, at a tick.
    """

    def __init__(self, run_id: UUID) -> None:
        self._run_id = run_id
        self._due = time.monotonic() + _LOOK_S

    def tick(self, stage: str, records: Path) -> None:
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _LOOK_S
        with suppress(httpx.HTTPError):  # the server will be back
            if has_ended(self._run_id):
                raise Interrupted(f"stage {stage}: the run that asked for it has ended", "run it again")


def build_stage(job: str) -> State[Any] | Ref:
    """In a worker: one stage of the pipeline. ``job`` is a StageJob as JSON."""
    return _state_for(*_opened(job))


def build_shard(entry: dict[str, Any], job: str, force: bool) -> State[Any] | Ref:
    """In a worker: the tokens of one shard. ``job`` is that of the whole stage."""
    builder, whole, run_id = _opened(job)
    builder = replace(builder, forced=frozenset({SHARD_STAGE.id} if force else ()))
    return _state_for(builder, shard_work(builder, entry, whole.inputs), run_id)


def build_download(entry: dict[str, Any], job: str, force: bool) -> State[Any] | Ref:
    """In a worker: one file of the hub. ``job`` is that of the stage which reads them all."""
    builder, _, run_id = _opened(job)
    builder = replace(builder, forced=frozenset({FETCH_STAGE.id} if force else ()))
    return _state_for(builder, fetch_work(entry), run_id)


def _state_for(builder: Builder, work: Work, run_id: UUID) -> State[Any] | Ref:
    token = OBSERVER.set(EndsWithRun(run_id))
    try:
        return state_of(builder, work)
    finally:
        OBSERVER.reset(token)


@lru_cache(maxsize=8)
def _opened(job: str) -> tuple[Builder, Work, UUID]:
    """Once for all shards of a stage, though each is a task of its own."""
    parsed = StageJob.model_validate_json(job)
    return *parsed.opened(), UUID(parsed.parent)


def _settle(arrived: Future[State[Any]], state: State[Any]) -> None:
    with suppress(InvalidStateError):
        arrived.set_result(state)
