"""Which runs have lost their process, and what becomes of them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, StateType

from flows.services.lost_runs import end_lost_runs, is_lost


def run(
    pid: str | None, *, host: str = "", state: StateType = StateType.RUNNING, its_id: UUID | None = None
) -> FlowRun:
    """A run that a worker of ``host`` took, by default of this one."""
    return FlowRun(
        id=its_id or uuid4(), flow_id=uuid4(), work_pool_name="cpu", infrastructure_pid=pid, state_type=state,
        labels={"prefect.worker.name": f"cpu-{host or socket.gethostname()}"},
    )  # fmt: skip


@pytest.fixture
def ended() -> str:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return str(process.pid)


def test_a_run_without_its_process_is_lost(ended: str) -> None:
    assert is_lost(run(ended))
    assert is_lost(run(None)), "it had not begun"
    assert is_lost(run(str(os.getpid()))), "another process has its number now"


def test_a_run_with_its_process_is_not() -> None:
    its_id = uuid4()
    environment = {**os.environ, "PREFECT__FLOW_RUN_ID": str(its_id)}
    sleeping = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    process = subprocess.Popen(sleeping, env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        process.stdout.readline()
        assert not is_lost(run(str(process.pid), its_id=its_id))
    finally:
        process.kill()
        process.wait()


def test_other_machines_and_runs_that_no_worker_took_are_left_alone(ended: str) -> None:
    assert not is_lost(run(ended, host="elsewhere"))
    assert not is_lost(run(None).model_copy(update={"labels": {}}))


class Client:
    """Stands for Prefect's: has runs, page by page, and remembers the states that they are given."""

    def __init__(self, runs: list[FlowRun]) -> None:
        self.runs = runs
        self.states: list[tuple[UUID, str]] = []

    async def read_flow_runs(self, *, limit: int, offset: int, **_: Any) -> list[FlowRun]:
        return self.runs[offset : offset + min(limit, 2)]

    async def set_flow_run_state(self, its_id: UUID, state: Any) -> None:
        self.states.append((its_id, state.type.value))


def test_every_lost_run_becomes_crashed_or_if_that_was_asked_for_cancelled(ended: str) -> None:
    runs = [
        run(ended), run(ended, host="elsewhere"), run(None, state=StateType.PENDING),
        run(ended, state=StateType.CANCELLING),
    ]  # fmt: skip
    client = Client(runs)
    asyncio.run(end_lost_runs(client))  # type: ignore[arg-type]
    assert client.states == [(runs[0].id, "CRASHED"), (runs[2].id, "CRASHED"), (runs[3].id, "CANCELLED")]
