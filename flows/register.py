"""``python -m flows.register``: tell a Prefect server what there is to run: pools, limits, deployments.

May be repeated: what is there already is brought up to date, nothing is doubled.
"""

from __future__ import annotations

import asyncio
import glob
import json
import subprocess
import sys
from datetime import timedelta
from typing import Any

from prefect.automations import Automation
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows.settings import PROJECT_ROOT

GPU_LIMIT = "gpu"
SILENT = "nanochat: a run that says nothing has crashed"
_SILENCE = timedelta(seconds=90)  # three heartbeats
_ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


async def register() -> None:
    """Pools, the limit on GPUs, and the automation that ends runs whose machine is gone."""
    async with get_client() as client:
        for path in sorted((PROJECT_ROOT / "deployments/pools").glob("*.json")):
            await _put_pool(client, json.loads(path.read_text(encoding="utf-8")))
        await client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, gpus())
    await _put_automation(_silence())


def gpus() -> int:
    """NVIDIA GPUs of this machine; where there is none, the one slot that the CPU stands for."""
    return len(glob.glob("/dev/nvidia[0-9]*")) or 1


async def _put_pool(client: PrefectClient, pool: dict[str, Any]) -> None:
    try:
        await client.read_work_pool(pool["name"])
    except ObjectNotFound:
        await client.create_work_pool(WorkPoolCreate(**pool))
    else:
        changed = {name: pool[name] for name in ("description", "base_job_template")}
        await client.update_work_pool(pool["name"], WorkPoolUpdate(**changed))


async def _put_automation(wanted: Automation) -> None:
    try:
        found = await Automation.aread(name=wanted.name)
    except ValueError:
        await wanted.acreate()
    else:
        wanted.id = found.id
        await wanted.aupdate()


def _silence() -> Automation:
    heartbeat = "prefect.flow-run.heartbeat"
    trigger = EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},
        after={heartbeat},
        expect={heartbeat, *(f"prefect.flow-run.{state}" for state in _ENDS)},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=_SILENCE,
    )
    message = "it gave no sign for 90 s: its machine or process is gone; Retry resumes it"
    action = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=message, force=False)
    return Automation(name=SILENT, trigger=trigger, actions=[action])


def deploy() -> int:
    """The deployments of ``prefect.yaml``, as ``prefect deploy --all`` registers them."""
    command = [sys.executable, "-P", "-m", "prefect", "--no-prompt", "deploy", "--all"]
    return subprocess.run(command, cwd=PROJECT_ROOT, stdin=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    asyncio.run(register())
    sys.exit(deploy())
