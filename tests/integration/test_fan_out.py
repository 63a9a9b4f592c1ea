"""Shards and an evaluation on two Dask workers, of which one is killed as it works: nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from artifacts.store import Store
from flows.services.embedded_server import EmbeddedServer

PATIENCE_S = 120
BUILT = ("tokenize", "tokenize-shard", "eval-base")


@dataclass(frozen=True)
class Run:
    """What a run printed, by stage; the Prefect server it told; and the Dask worker that it lost."""

    printed: dict[str, dict[str, Any]]
    home: Path
    api_url: str
    killed: str


def _until(condition: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    """A Prefect server that stays when a run ends."""
    server = EmbeddedServer()
    server.wait()
    yield server.api_url
    server.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, int]]]:
    """The address of a Dask scheduler, and its two workers: name -> process id. Each has its own home."""
    folder = tmp_path_factory.mktemp("dask")
    about = folder / "scheduler.json"
    here = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(about)]
    alone = ["--no-nanny", "--nthreads", "1", "--local-directory", str(folder)]
    started = []

    def start(program: str, *arguments: str, **environment: str) -> int:
        command = [sys.executable, "-m", f"distributed.cli.dask_{program}", *here, *arguments]
        with (folder / "log.txt").open("a") as log:
            started.append(
                subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
            )
        return started[-1].pid

    start("scheduler", "--port", "0")
    workers = {
        name: start("worker", *alone, "--name", name, NANOCHAT_HOME=str(folder / name))
        for name in ("one", "two")
    }
    _until(about.exists)
    yield json.loads(about.read_text())["address"], workers
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def run(
    cluster: tuple[str, dict[str, int]],
    api_url: str,
    tiny_home: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """``nanochat run tiny`` where shards and evaluation are missing. One worker is killed at its shard."""
    from distributed import Client

    address, workers = cluster
    home = shutil.copytree(tiny_home, tmp_path_factory.mktemp("fan-out") / "home", symlinks=True)
    for stage in BUILT:
        shutil.rmtree(home / "store/fingerprints" / stage)
    program = Path(sys.executable).with_name("nanochat")
    environment = {
        **os.environ, "NANOCHAT_HOME": str(home), "PREFECT_API_URL": api_url, "NANOCHAT_FAN_OUT": address,
    }  # fmt: skip
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=PATIENCE_S)
        command = [program, "run", "tiny", "--until", "eval-base", "--json"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _until(lambda: process.poll() is not None or sum(map(bool, client.processing().values())) == 2)
        os.kill(workers["one"], signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err.decode()
        assert [worker["name"] for worker in client.scheduler_info()["workers"].values()] == ["two"]
    lines = [json.loads(line) for line in out.splitlines()]
    return Run({line["stage"]: line for line in lines}, home, api_url, "one")


def test_the_killed_worker_fails_nothing(run: Run) -> None:
    built = {stage for stage, line in run.printed.items() if line["status"] == "ran"}
    assert built == {"tokenize", "eval-base"}
    assert run.printed["base"]["status"] == "cached"


def test_the_digests_are_those_of_a_run_without_workers(run: Run, tiny_home: Path) -> None:
    for ref in ("tokens/tiny", "eval/tiny-base"):
        _, before = Store.open(str(tiny_home / "store")).resolve(f"{ref}@v1")
        made = run.printed[before.stage]
        assert (made["artifact"], made["digest"]) == (f"{ref}@v1", before.digest)


@pytest.mark.parametrize(("stage", "count"), [("tokenize-shard", 2), ("eval-base", 1)])
def test_the_other_worker_did_it(stage: str, count: int, run: Run) -> None:
    """What started the program of a stage is in its provenance."""
    store = Store.open(str(run.home / "store"))
    answers = [path.stem for path in (run.home / "store/fingerprints" / stage).glob("*.json")]
    parents = [store.lookup(stage, answer).provenance.settings["parent"] for answer in answers]  # type: ignore[union-attr]
    assert len(parents) == count
    assert all("distributed.cli.dask_worker" in parent and "--name two" in parent for parent in parents)


def test_prefect_shows_every_task_of_the_workers(run: Run) -> None:
    names = {"pretrain/shard_00000.parquet", "pretrain/shard_00001.parquet", "eval-base d2 eval/tiny-base"}

    def shown() -> set[str]:
        found = httpx.post(f"{run.api_url}/task_runs/filter", json={}).json()
        return {task["name"] for task in found if task["state_name"] == "Completed"}

    _until(lambda: names <= shown())  # a worker tells the server when it gets round to it
