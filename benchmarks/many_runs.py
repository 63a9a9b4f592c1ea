"""Many runs of the stub pipeline, submitted at once to the server of PREFECT_API_URL: is any of it lost?

    python benchmarks/many_runs.py RUNS [--limit 4] [--stage-s 0.5]

They run in a worker of their own, ``--limit`` at once. Prints one JSON document. A first run, alone, shows
which task runs and Prefect artifacts each of the others has to leave.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun

from flows.processes.server_process import PYTHON, ServerProcess

POOL = "stub"
PATIENCE_S = 3600
LATE_S = 60  # so long after a run's end its last rows may still come
MOST = 200  # rows that Prefect answers with at once


@contextmanager
def worker(limit: int, stage_s: float) -> Iterator[None]:
    """One that starts a process a run, ``limit`` at a time."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(port),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", "NANOCHAT_TAKES_SIGINT": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "STUB_SECONDS": str(stage_s),
    }  # fmt: skip
    options = ["--pool", POOL, "--limit", str(limit), "--type", "process", "--with-healthcheck"]
    command = [*PYTHON, "-m", "prefect", "worker", "start", *options]
    process = ServerProcess(command, "127.0.0.1", port, "/health", settings, stdout=subprocess.DEVNULL)
    try:
        assert process.becomes_ready(120), "the worker did not start"
        yield
    finally:
        process.stop(60)


async def deploy(client: PrefectClient) -> UUID:
    await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"), overwrite=True)
    return await client.create_deployment(
        await client.create_flow_from_name("pipeline"), POOL, work_pool_name=POOL,
        entrypoint="stub_pipeline.pipeline", enforce_parameter_schema=False,
    )  # fmt: skip


async def run_all(client: PrefectClient, deployment: UUID, names: list[str]) -> list[FlowRun]:
    """Submitted at once, each as ``prefect deployment run`` does it; the runs when all of them are over."""
    asked = [
        client.create_flow_run_from_deployment(
            deployment, name=name, parameters={"params": {"preset": "tiny", "name": name}}
        )
        for name in names
    ]
    ids = [run.id for run in await asyncio.gather(*asked)]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        runs = [await client.read_flow_run(its_id) for its_id in ids]
        if all(run.state and run.state.is_final() for run in runs) or time.monotonic() > deadline:
            return runs
        await asyncio.sleep(2)


async def left_by(client: PrefectClient, run: FlowRun) -> Counter[tuple[str, str]]:
    """The run's task runs with their states, and its artifacts, named without its own name."""
    its = FlowRunFilter.model_validate({"id": {"any_": [run.id]}})
    tasks = await client.read_task_runs(flow_run_filter=its, limit=MOST)
    artifacts = await client.read_artifacts(flow_run_filter=its, limit=MOST)
    found = Counter((task.name.replace(run.name, ""), task.state_name or "") for task in tasks)
    return found + Counter((str(artifact.key).replace(run.name, ""), "artifact") for artifact in artifacts)


async def lost(
    client: PrefectClient, runs: list[FlowRun], wanted: Counter[tuple[str, str]]
) -> dict[str, list[str]]:
    """Run -> what it lacks of ``wanted``, after a while of looking again."""
    missing: dict[str, list[str]] = {}
    deadline = time.monotonic() + LATE_S
    for run in runs:
        while (lacking := wanted - await left_by(client, run)) and time.monotonic() < deadline:
            await asyncio.sleep(2)
        if lacking:
            missing[run.name] = [" ".join(what) for what in lacking.elements()]
    return missing


async def measure(count: int) -> dict[str, Any]:
    async with get_client() as client:
        deployment = await deploy(client)
        (first,) = await run_all(client, deployment, ["stub-first"])
        await asyncio.sleep(5)
        wanted = await left_by(client, first)
        start = time.monotonic()
        runs = await run_all(client, deployment, [f"stub-{number:03}" for number in range(count)])
        seconds = time.monotonic() - start
        artifacts = sum(number for (_, state), number in wanted.items() if state == "artifact")
        return {
            "runs": count, "seconds": round(seconds, 1),
            "states": Counter(str(run.state_name) for run in runs),
            "messages": [run.state.message for run in runs if run.state and not run.state.is_completed()],
            "task_runs_each": wanted.total() - artifacts, "artifacts_each": artifacts,
            "lost": await lost(client, runs, wanted),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=int)
    parser.add_argument("--limit", type=int, default=4, help="how many at once")
    parser.add_argument("--stage-s", type=float, default=0.5, help="how long a stage sleeps")
    arguments = parser.parse_args()
    with worker(arguments.limit, arguments.stage_s):
        print(json.dumps(asyncio.run(measure(arguments.runs))))


if __name__ == "__main__":
    main()
