"""A stage as one child run on another work pool: made or found, waited for, cancelled with its parent.

The one place that makes child runs. Prefect cancels no children with their parent, so this does, and the
child looks after its parent too (``flows/dispatch/stage_flow.py``): neither outlives the other for long.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling
from prefect.utilities.urls import url_for

from artifacts import layout
from artifacts.errors import NanochatError, ResourceError, UsageError
from artifacts.store import Store
from flows.dispatch.stage_job import StageJob
from flows.launch import STOP, Interrupted, StageKilled

FLOW = "stage"
_ASK_AGAIN_S = 1.0
_CANCEL_S = 20.0  # less than the 30 s after which Prefect kills the parent
_SERVER_GONE_S = 600.0
_AGAIN = "Retry resumes it"


def run_child(pool: str, job: StageJob, says: Callable[[str], None]) -> None:
    """Have ``job`` done by a worker of ``pool`` and wait for its end. ``says`` hears what becomes of it.

    A run that builds the same already is waited for, not doubled. Raises Interrupted if this run is
    stopped, which cancels a child of its own; StageKilled if the child was lost; else what it failed of.
    """
    with get_client(sync_client=True) as client:
        run = _found(client, pool, job) or _made(client, pool, job)
        says(f"runs on the work pool {pool} as {run.name}: {url_for('flow-run', obj_id=run.id) or run.id}")
        _raise_for(_ended(client, run, job, says), job)


def check_pools(pools: Iterable[str], store: Store) -> None:
    """Refuse what cannot work, before anything is spent: pools that are not there or cannot reach the store.

    Workers of ``nanochat up`` carry their host's name; with a store in a folder there may be no others.
    """
    if not (pools := list(pools)):
        return
    with get_client(sync_client=True) as client:
        for pool in pools:
            try:
                found = client.read_work_pool(pool)
                client.read_deployment_by_name(f"{FLOW}/{pool}")
            except ObjectNotFound:
                raise ResourceError(
                    f"this Prefect server has no work pool {pool} with a deployment {FLOW}/{pool}",
                    "run python -m flows.services.register, or change NANOCHAT_POOLS",
                ) from None
            if store.backend.local_path(layout.STORE) is None:
                continue
            workers = client.read_workers_for_work_pool(pool)
            away = [
                worker.name
                for worker in workers
                if worker.status == WorkerStatus.ONLINE and not worker.name.endswith(socket.gethostname())
            ]
            if away or found.type != "process":
                who = f"worker {away[0]}" if away else f"a pool of type {found.type}"
                raise UsageError(
                    f"work pool {pool} ({who}) runs on another host, which cannot reach {store.backend.url}",
                    "keep the store in a bucket: --store s3://BUCKET/PREFIX",
                )


def _found(client: SyncPrefectClient, pool: str, job: StageJob) -> FlowRun | None:
    """The run that builds the same now."""
    return next((run for run in _asked_before(client, job) if not _is_over(run)), None)


def _made(client: SyncPrefectClient, pool: str, job: StageJob) -> FlowRun:
    """A new run, or another's that made it just now: the key is the work's, and how often it has ended."""
    count = sum(_is_over(run) for run in _asked_before(client, job))
    made: FlowRun = run_deployment(  # type: ignore[assignment]  # not awaited: this is no async function
        f"{FLOW}/{pool}", parameters={"job": job.model_dump(mode="json")}, timeout=0,
        flow_run_name=f"{job.stage} of {job.run_name}", tags=["nanochat", job.stage, _tag(job)],
        idempotency_key=f"{job.fingerprint}-{count}",
    )  # fmt: skip
    return made


def _asked_before(client: SyncPrefectClient, job: StageJob) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate({"tags": {"all_": [_tag(job)]}})
    )


def _tag(job: StageJob) -> str:
    return f"fingerprint:{job.fingerprint[:16]}"


def _ended(client: SyncPrefectClient, run: FlowRun, job: StageJob, says: Callable[[str], None]) -> FlowRun:
    """The run at its end. An absent server is waited for; a pulled switch cancels the run if it is ours."""
    told, cancelled_at, seen = "Scheduled", 0.0, time.monotonic()
    while True:
        try:
            run = client.read_flow_run(run.id)
            seen = time.monotonic()
            if STOP.pulls and not cancelled_at:
                cancelled_at = seen
                _cancel(client, run, job)
        except httpx.HTTPError as error:
            if time.monotonic() - seen > _SERVER_GONE_S:
                raise ResourceError(
                    f"Prefect's server is gone: {error}", "the same command resumes"
                ) from None
        if _is_over(run):
            return run
        if STOP.pulls and time.monotonic() - (cancelled_at or seen) > _CANCEL_S:
            raise Interrupted(
                f"stage {job.stage} was told to stop in {run.name}", "the same command resumes it"
            )
        if run.state and run.state.name and run.state.name != told:
            told = run.state.name
            says(f"{run.name}: {told.lower()}{_hint(told)}")
        time.sleep(_ASK_AGAIN_S)


def _cancel(client: SyncPrefectClient, run: FlowRun, job: StageJob) -> None:
    """Only what this run, or an earlier attempt of it, has made; others may wait for the rest."""
    if _is_ours(run, job) and not _is_over(run):
        client.set_flow_run_state(run.id, Cancelling(message="its parent run was stopped"))


def _raise_for(run: FlowRun, job: StageJob) -> None:
    assert run.state
    message = run.state.message or "it did not say why"
    if run.state.is_completed():
        return
    if STOP.pulls:
        raise Interrupted(f"stage {job.stage} was stopped", _AGAIN)
    if run.state.is_crashed():
        raise StageKilled(f"stage {job.stage} was lost in its run {run.name}: {message}", _AGAIN)
    if run.state.is_cancelled():
        kind = Interrupted if _is_ours(run, job) else StageKilled
        raise kind(f"stage {job.stage} was cancelled in its run {run.name}", _AGAIN)
    raise NanochatError(_without_preamble(message), f"its run: {run.name}")


def _without_preamble(message: str) -> str:
    """What the stage said, without what Prefect puts before it."""
    return message.rpartition("Flow run encountered an exception: ")[2].partition(": ")[2] or message


def _hint(state: str) -> str:
    return ": no worker of this pool has taken it yet" if state == "Late" else ""


def _is_ours(run: FlowRun, job: StageJob) -> bool:
    return bool(run.parameters["job"]["parent"] == job.parent)


def _is_over(run: FlowRun) -> bool:
    return bool(run.state and run.state.is_final())
