"""Stages on another work pool: one child run each, which ends with its parent and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

LONG = {"base.steps": 5000, "base.eval_every": 5000}
POOLS = json.dumps({"gpu": {"gpus": 2, "cpus": 64, "memory_gb": 512}})  # as nanochat up says where GPUs are
KILLED_AFTER_S = 30  # the grace that Prefect gives to a cancelled run


def store(server: Any) -> Path:
    return Path(server.home, "dispatched")


def start(server: Any, **params: Any) -> str:
    """A run of the pipeline whose stages are sent to work pools, into a store that no other file uses."""
    params = {"store": str(store(server)), **params}
    path = f"deployments/{server.deployment('pipeline')['id']}/create_flow_run"
    variables = {"env": {"NANOCHAT_POOLS": POOLS}}
    return str(server.read(path, parameters={"params": params}, job_variables=variables)["id"])


def children(server: Any, parent: str) -> list[dict[str, Any]]:
    """The runs that a run has asked for."""
    return [run for run in server.runs("gpu") if run["parameters"]["job"]["parent"] == parent]


def processes(server: Any, parent: str) -> list[psutil.Process]:
    """What works for a run: its flow, the flows of its children, torchrun and the ranks of a base model."""
    flows = {parent, *(child["id"] for child in children(server, parent))}
    found = []
    for process in psutil.process_iter():
        try:
            environment, line = process.environ(), " ".join(process.cmdline())
        except psutil.Error:
            continue
        trains = environment.get("NANOCHAT_HOME") == str(server.home) and "nanochat.stages.base" in line
        if trains or environment.get("PREFECT__FLOW_RUN_ID") in flows:
            found.append(process)
    return found


def flow_process(server: Any, flow_run: str) -> psutil.Process:
    """The oldest process of a flow run."""
    mine = [p for p in processes(server, flow_run) if p.environ().get("PREFECT__FLOW_RUN_ID") == flow_run]
    return min(mine, key=lambda process: process.create_time())


def gone_within(seconds: float, there: Callable[[], list[psutil.Process]]) -> None:
    deadline = time.monotonic() + seconds
    while left := there():
        assert time.monotonic() < deadline, left
        time.sleep(0.3)


@pytest.fixture
def training(server: Any) -> Iterator[str]:
    """A run whose base model trains for minutes, in a child run."""
    changes = {**LONG, "base.seed": time.time_ns() % 10**9}
    run = start(server, preset="tiny", name="long", set=changes, until="base")
    records = store(server) / "attempts"
    known = set(records.glob("*/records.jsonl"))
    server.until(lambda: any(path.stat().st_size for path in {*records.glob("*/records.jsonl")} - known))
    yield run
    for flow_run in (run, *(child["id"] for child in children(server, run))):
        server.read(f"flow_runs/{flow_run}/set_state", state={"type": "CANCELLING"})
    gone_within(2 * KILLED_AFTER_S, lambda: processes(server, run))


def test_a_gpu_stage_is_a_child_run_and_makes_what_one_process_tree_makes(
    server: Any, tiny_home: Path, nanochat: Callable[..., Any]
) -> None:
    run = server.ended(start(server, preset="tiny", name="away", until="base"))
    assert run["state_name"] == "Completed"
    (base,) = [child for child in server.runs("gpu") if child["name"] == "base of away"]
    assert (base["state_name"], base["work_pool_name"]) == ("Completed", "gpu")
    assert (
        server.get(f"task_runs/{base['parent_task_run_id']}")["flow_run_id"]
        == base["parameters"]["job"]["parent"]
    )
    made = json.loads(server.types(f"nanochat art show base/away@v1 --json --store {store(server)}"))
    assert (
        made["digest"]
        == json.loads(nanochat("art", "show", "base/tiny@v1", "--json", home=tiny_home).stdout)["digest"]
    )


@pytest.mark.criterion("T97")
def test_two_that_want_the_same_have_one_child(server: Any) -> None:
    params = {"preset": "tiny", "name": "twins", "set": {"base.seed": 21}, "until": "base"}
    twins = [start(server, **params) for _ in range(2)]
    assert [server.ended(run)["state_name"] for run in twins] == ["Completed"] * 2
    assert sum(len(children(server, run)) for run in twins) == 1
    listed = json.loads(server.types(f"nanochat art ls base/twins --json --store {store(server)}"))
    assert [item["ref"] for item in listed] == ["base/twins@v1"]


def test_a_killed_child_is_made_again_and_a_cancelled_run_leaves_no_process(
    server: Any, training: str
) -> None:
    (child,) = children(server, training)
    attempt = store(server) / "attempts" / child["parameters"]["job"]["fingerprint"]
    server.until(lambda: list((attempt / "checkpoints").glob("step-*")))
    os.kill(flow_process(server, child["id"]).pid, signal.SIGKILL)
    server.until(lambda: "resuming at step" in (attempt / "log.txt").read_text(encoding="utf-8"))
    killed, child = sorted(children(server, training), key=lambda run: run["created"])
    assert server.ended(killed["id"])["state_name"] == "Crashed"
    assert server.get("v2/concurrency_limits/gpu")["active_slots"] >= 1
    there = processes(server, training)
    assert len(there) >= 4, "flow, child flow, torchrun, rank"
    server.read(f"flow_runs/{training}/set_state", state={"type": "CANCELLING"})
    gone_within(KILLED_AFTER_S + 10, lambda: [p for p in there if p.is_running()])
    assert server.ended(training)["state_name"] == "Cancelled"
    assert server.ended(child["id"])["state_name"] == "Cancelled"
    server.until(lambda: server.get("v2/concurrency_limits/gpu")["active_slots"] == 0)


def test_a_child_ends_with_a_parent_that_was_killed(server: Any, training: str) -> None:
    there = processes(server, training)
    os.kill(flow_process(server, training).pid, signal.SIGKILL)
    assert server.ended(training)["state_name"] == "Crashed"
    gone_within(KILLED_AFTER_S + 10, lambda: [p for p in there if p.is_running()])
    (child,) = children(server, training)
    assert server.ended(child["id"])["state_name"] == "Cancelled"


def test_a_store_that_a_worker_cannot_reach_is_refused_before_anything_starts(server: Any) -> None:
    name = f"not-{socket.gethostname()}-but-another"
    server.read("work_pools/gpu/workers/heartbeat", name=name)
    try:
        run = server.ended(start(server, preset="tiny", name="refused"))
    finally:
        server.asks("DELETE", f"work_pools/gpu/workers/{name}")
    assert run["state_name"] == "Failed"
    assert f"work pool gpu (worker {name}) runs on another host" in run["state"]["message"]
    assert "s3://" in run["state"]["message"]
    assert server.tasks(run["id"]) == []
