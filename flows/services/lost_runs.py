"""Runs that are said to be under way on this machine, but whose process is gone, as after a reboot."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import psutil
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Crashed

_UNDER_WAY = ["PENDING", "RUNNING", "CANCELLING"]
_PAGE = 200


async def end_lost_runs(client: PrefectClient) -> None:
    """Mark them Crashed, so that a retry resumes them, or Cancelled if that had been asked for.

    For the time before this machine's workers start. The automation finds them too, but later, and not
    those that had not begun: these would keep their deployment's place for ever.
    """
    for run in filter(is_lost, await _under_way(client)):
        state: State[Any] = Crashed(message="its process is gone, as after a reboot; Retry resumes it")
        if run.state_type == StateType.CANCELLING:
            state = Cancelled()
        await client.set_flow_run_state(run.id, state)


def is_lost(run: FlowRun) -> bool:
    """True if a worker of this machine took ``run`` and no process of that run is there."""
    if run.labels.get("prefect.worker.name") != f"{run.work_pool_name}-{socket.gethostname()}":
        return False  # the name that nanochat up gives to workers
    with suppress(psutil.Error):
        environment = psutil.Process(int(run.infrastructure_pid or 0)).environ()
        return bool(environment.get("PREFECT__FLOW_RUN_ID") != str(run.id))  # a number may be used again
    return True


async def _under_way(client: PrefectClient) -> list[FlowRun]:
    wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": _UNDER_WAY}}})
    runs: list[FlowRun] = []
    while page := await client.read_flow_runs(flow_run_filter=wanted, limit=_PAGE, offset=len(runs)):
        runs += page
    return runs
