"""The flow of a child run: one stage, on the machine that has what it needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from uuid import UUID

import httpx
from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext
from prefect.states import Cancelling

from flows.dispatch.cluster import Cluster
from flows.dispatch.machine import GPU_LIMIT, devices
from flows.dispatch.parent import has_ended
from flows.dispatch.pools import needs_of
from flows.dispatch.stage_job import StageJob
from flows.launch import STOP
from flows.stage_task import build_task, stopping_children

_LOOK_S = 5.0
_LEASE_S = 60


@flow(name="stage", persist_result=False)
def stage(job: StageJob) -> dict[str, Any]:
    """Build one stage. What is built already is found; two that ask for the same build it once."""
    builder, work = job.opened()
    here = Cluster.read().share(builder.ranks)  # other nodes, if any, are other pods of this one's job
    gpus = 0 if builder.find(work) else needs_of(work.stage, here).gpus
    # A lost lease must not end hours of training: then two stages share a GPU for a while.
    slots = concurrency(
        GPU_LIMIT, occupy=gpus, strict=True, lease_duration=_LEASE_S, raise_on_lease_renewal_failure=False
    )
    with stopping_children(), ended_with_parent(job), slots if gpus else nullcontext(), devices(gpus):
        made: dict[str, Any] = build_task(builder, work).submit().result()
        return made


@contextmanager
def ended_with_parent(job: StageJob, look_s: float = _LOOK_S) -> Iterator[None]:
    """Within, this run is cancelled once the run that asked for it has ended, however it ended."""
    done = threading.Event()
    context = FlowRunContext.get()
    own = context and context.flow_run and context.flow_run.id
    if not job.parent or not own:
        yield
        return
    logger = get_run_logger()

    def watch() -> None:
        """Twice over: a parent that is retried just now is over for a moment."""
        ended = 0
        while not done.wait(look_s):
            try:
                ended = ended + 1 if has_ended(UUID(job.parent)) else 0
                if ended == 2:
                    logger.warning("the run that asked for this stage has ended: stopping")
                    STOP.pull()
                    _cancel(own)
                    return
            except httpx.HTTPError:
                continue  # the server will be back

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()


def _cancel(flow_run: UUID) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run, Cancelling(message="the run that asked for it has ended"))
