"""Downloads, shards and an evaluation on two Dask workers, of which one is killed: nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from artifacts.store import Store
from flows.services.embedded_server import EmbeddedServer
from nanochat.data.shards import write_shard

PATIENCE_S = 120
BUILT = ("tokenize", "tokenize-shard", "eval-base")
DATASET = "datasets/karpathy/climbmix-400b-shuffle/resolve/main"
NUMBERS = (0, 1, 2, 3, 6542)


@dataclass(frozen=True)
class Run:
    """What a run printed, by stage; the Prefect server it told; and the Dask worker that it lost."""

    printed: dict[str, dict[str, Any]]
    home: Path
    api_url: str
    killed: str


@dataclass
class Hub:
    """A hub on the loopback. ``asked``: how often for which file; ``refused``: file -> HTTP status."""

    url: str
    asked: Counter[str] = field(default_factory=Counter)
    refused: dict[str, int] = field(default_factory=dict)


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
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Four train shards; one of their documents also stands in the validation shard."""
    folder = tmp_path_factory.mktemp("hub")
    for number in NUMBERS:
        texts = [f"Shard {number} says {line}, and that is all." for line in range(50)]
        write_shard(
            folder, f"{DATASET}/shard_{number:05d}.parquet", "train", [*texts, "The same everywhere."]
        )

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            file = self.path.rpartition("/")[2]
            made.asked[file] += 1
            if status := made.refused.get(file):
                self.send_response(status)
                self.send_header("Retry-After", "0")
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Cluster:
    """A Dask scheduler and its two workers: name -> process id. Each has a home in ``folder``."""

    address: str
    workers: dict[str, int]
    folder: Path


@pytest.fixture(scope="module")
def cluster(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
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
        name: start("worker", *alone, "--name", name, NANOCHAT_HOME=str(folder / name), HF_ENDPOINT=hub.url)
        for name in ("one", "two")
    }
    _until(about.exists)
    yield Cluster(json.loads(about.read_text())["address"], workers, folder)
    for process in started:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Downloads:
    """Runs of the stage ``shards`` by both workers, into one store."""

    nanochat: Callable[..., subprocess.CompletedProcess[str]]
    home: Path
    environment: dict[str, str]

    def run(self, num_shards: int, rc: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        """A run that wants so many train shards of the hub. ``more``: other environment."""
        options = ["--set", "shards.source=hub", "--set", f"shards.num_shards={num_shards}"]
        environment = {**self.environment, "home": self.home, **more}
        return self.nanochat("run", "tiny", "--until", "shards", *options, rc=rc, **environment)

    def workers_of(self, stage: str) -> list[str]:
        """The command line that started each program of ``stage``."""
        store = Store.open(str(self.home / "store"))
        answers = [path.stem for path in (self.home / "store/fingerprints" / stage).glob("*.json")]
        found = [store.lookup(stage, answer) for answer in answers]
        return [str(manifest.provenance.settings["parent"]) for manifest in found if manifest]


@pytest.fixture(scope="module")
def downloads(
    cluster: Cluster,
    api_url: str,
    nanochat: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Downloads:
    """Two train shards were downloaded. Only the workers know where the hub is."""
    from distributed import Client

    environment = {"PREFECT_API_URL": api_url, "NANOCHAT_FAN_OUT": cluster.address}
    made = Downloads(nanochat, tmp_path_factory.mktemp("downloads") / "home", environment)
    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=PATIENCE_S)
    made.run(2, HF_ENDPOINT="http://127.0.0.1:9")
    return made


def test_each_file_is_fetched_once_and_by_a_worker(downloads: Downloads, hub: Hub, cluster: Cluster) -> None:
    assert hub.asked == {"shard_00000.parquet": 1, "shard_00001.parquet": 1, "shard_06542.parquet": 1}
    parents = downloads.workers_of("fetch-shard")
    assert len(parents) == 3
    assert {name for name in cluster.workers for parent in parents if f"--name {name}" in parent} == {
        "one", "two",
    }  # fmt: skip
    assert ["dask" in parent for parent in downloads.workers_of("shards")] == [False]


def test_the_shards_are_those_of_a_run_without_workers(
    downloads: Downloads, hub: Hub, tmp_path: Path
) -> None:
    alone = Downloads(downloads.nanochat, tmp_path, {"HF_ENDPOINT": hub.url})
    alone.run(2)
    assert not (tmp_path / "store/fingerprints/fetch-shard").exists()
    one, other = (
        Store.open(str(home / "store")).resolve("shards/tiny@v1")[1] for home in (tmp_path, downloads.home)
    )
    assert (one.digest, one.fingerprint, one.recipe) == (other.digest, other.fingerprint, other.recipe)
    assert (one.metrics, one.parents) == (other.metrics, other.parents)
    assert other.metrics["val_documents"] == 50, "the one that is also in train was left out"


def test_a_finished_download_is_not_repeated(downloads: Downloads, hub: Hub, cluster: Cluster) -> None:
    for name in cluster.workers:
        shutil.rmtree(cluster.folder / name / "downloads")
    before = hub.asked.copy()
    downloads.run(3)
    assert hub.asked - before == {"shard_00002.parquet": 1}
    assert len(downloads.workers_of("fetch-shard")) == 4


@pytest.mark.parametrize("status", [404, 500])
def test_a_download_that_fails_is_one_clear_line(status: int, downloads: Downloads, hub: Hub) -> None:
    hub.refused = {"shard_00003.parquet": status}
    *_, said = downloads.run(4, rc=4).stderr.splitlines()
    address = f"{hub.url}/{DATASET}/shard_00003.parquet"
    assert f"error: stage fetch-shard: download {address}: HTTP {status} (" in said


@pytest.fixture(scope="module")
def run(
    cluster: Cluster,
    api_url: str,
    tiny_home: Path,
    downloads: Downloads,  # these need both workers
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """``nanochat run tiny`` where shards and evaluation are missing. One worker is killed at its shard."""
    from distributed import Client

    home = shutil.copytree(tiny_home, tmp_path_factory.mktemp("fan-out") / "home", symlinks=True)
    for stage in BUILT:
        shutil.rmtree(home / "store/fingerprints" / stage)
    program = Path(sys.executable).with_name("nanochat")
    environment = {
        **os.environ, "NANOCHAT_HOME": str(home), "PREFECT_API_URL": api_url,
        "NANOCHAT_FAN_OUT": cluster.address,
    }  # fmt: skip
    with Client(cluster.address, set_as_default=False) as client:
        command = [program, "run", "tiny", "--until", "eval-base", "--json"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _until(lambda: process.poll() is not None or sum(map(bool, client.processing().values())) == 2)
        os.kill(cluster.workers["one"], signal.SIGKILL)
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
