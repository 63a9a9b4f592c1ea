"""``python -m flows.services.register [KIND]``: tell a Prefect server what can be run.

That is: work pools, limits, deployments, automations.

KIND is who carries out the runs of the pools: process, which is the default, or kubernetes.

May be repeated: what is there already is brought up to date, nothing is doubled, and what a person has
switched on or off since then stays so.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Container
from datetime import timedelta
from uuid import UUID

import yaml
from prefect.automations import Automation
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from artifacts.errors import NanochatError, UsageError
from flows.dispatch.machine import GPU_LIMIT, slots
from flows.publish import PUBLISHED
from flows.services.lost_runs import end_lost_runs
from flows.settings import PROJECT_ROOT

SILENT = "nanochat: a run that says nothing has crashed"
ON_PUBLISH = "nanochat: evaluate a model that is published"
_SILENCE = timedelta(seconds=90)  # three heartbeats
_ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


async def register(kind: str) -> int:
    """Everything, in the order in which one needs the other; the exit code of ``prefect deploy``."""
    wanted = pools(kind)
    async with get_client() as client:
        for pool in wanted:
            await _put_pool(client, pool)
        await _put_limit(client)
        await end_lost_runs(client)
        if code := deploy(await _scheduled(client)):
            return code
        evaluate = (await client.read_deployment_by_name("evaluate/evaluate")).id
    await _put_automation(_silence())
    await _put_automation(_on_publish(evaluate), editable=True)
    return 0


def pools(kind: str) -> list[WorkPoolCreate]:
    """What ``deployments/pools.json`` names, as work pools of a kind. UsageError if there is no such kind."""
    folder = PROJECT_ROOT / "deployments"
    kinds = sorted(path.stem for path in (folder / "job_templates").glob("*.json"))
    if kind not in kinds:
        raise UsageError(f"{kind!r} is no kind of work pool", f"there are {', '.join(kinds)}")
    made = []
    for name, pool in json.loads((folder / "pools.json").read_text(encoding="utf-8")).items():
        template = json.loads((folder / f"job_templates/{kind}.json").read_text(encoding="utf-8"))
        for variable, default in pool.get(kind, {}).items():
            template["variables"]["properties"][variable]["default"] = default
        made.append(
            WorkPoolCreate(name=name, type=kind, description=pool["description"], base_job_template=template)
        )
    return made


async def _put_pool(client: PrefectClient, pool: WorkPoolCreate) -> None:
    try:
        found = await client.read_work_pool(pool.name)
    except ObjectNotFound:
        await client.create_work_pool(pool)
        return
    if found.type != pool.type:
        raise UsageError(
            f"work pool {pool.name} is of type {found.type}, not {pool.type}",
            f"remove it first: prefect work-pool delete {pool.name}",
        )
    changed = WorkPoolUpdate(description=pool.description, base_job_template=pool.base_job_template)
    await client.update_work_pool(pool.name, changed)


async def _put_limit(client: PrefectClient) -> None:
    """A slot for each GPU of this machine; a limit that is there belongs to its users."""
    try:
        await client.read_global_concurrency_limit_by_name(GPU_LIMIT)
    except ObjectNotFound:
        await client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, slots())


async def _put_automation(wanted: Automation, *, editable: bool = False) -> None:
    """Make it, or bring it up to date; an ``editable`` one that is there belongs to its users."""
    try:
        found = await Automation.aread(name=wanted.name)
    except ValueError:
        await wanted.acreate()
    else:
        if not editable:
            wanted.id, wanted.enabled = found.id, found.enabled
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


def _on_publish(evaluate: UUID) -> Automation:
    """Off at first: the pipeline evaluates its models itself, and evaluating takes time."""
    trigger = EventTrigger(
        match={"prefect.resource.id": "nanochat.model.*"},
        expect={PUBLISHED},
        posture=Posture.Reactive,
        threshold=1,
    )
    params = {
        name: {"__prefect_kind": "jinja", "template": f"{{{{ event.payload.{name} }}}}"}
        for name in ("model", "store")
    }
    action = RunDeployment(
        source="selected", deployment_id=evaluate, parameters={"params": params}, job_variables=None
    )
    return Automation(name=ON_PUBLISH, trigger=trigger, actions=[action], enabled=False)


async def _scheduled(client: PrefectClient) -> set[str]:
    """The names of deployments that have schedules on the server."""
    return {found.name for found in await client.read_deployments() if found.schedules}


def deploy(scheduled: Container[str] = ()) -> int:
    """The deployments of ``prefect.yaml``, as ``prefect deploy --all`` registers them.

    The ``scheduled`` ones keep the schedules that they have, which Prefect would set back to the file's.
    """
    project = yaml.safe_load((PROJECT_ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    for deployment in project["deployments"]:
        if deployment["name"] in scheduled:
            deployment.pop("schedules", None)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(project, file)
        file.flush()
        command = ["-P", "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file.name]
        return subprocess.run(
            [sys.executable, *command], cwd=PROJECT_ROOT, stdin=subprocess.DEVNULL
        ).returncode


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(register(*sys.argv[1:] or ["process"])))
    except NanochatError as error:
        sys.exit(f"register: {error}")
