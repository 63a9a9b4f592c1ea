"""``tiny`` on a real Prefect server: deployed, run by a process worker, and read back from the API."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.dag import STAGE_IDS
from flows.embedded_api import EMPTY_DATABASE

CANARY = "canary-7f3a91c2-never-store-this"
STOP_S = 30
KILLED = ("shards", "tokenizer", "tokenize-shard", "base", "eval-base", "sft", "rl", "report")

# What the quick start tells people to type, word for word: two programs that stay, then three steps.
_PAGE = (Path(__file__).parents[2] / "docs/08_quickstart.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```\n(prefect .*?)^```$", _PAGE, re.DOTALL | re.MULTILINE)
(START, WORK), (POOL, DEPLOY, RUN) = (map(shlex.split, block.splitlines()) for block in _BLOCKS)

Command = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Server:
    """A running server, its worker's environment, and the home folder that runs write to."""

    api: str
    environment: dict[str, str]
    home: Path

    def read(self, path: str, **query: Any) -> Any:
        request = urllib.request.Request(
            f"{self.api}/{path}", json.dumps(query).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def everything(self, path: str) -> list[dict[str, Any]]:
        """All items of a ``/filter`` route, page by page."""
        items: list[dict[str, Any]] = []
        while page := self.read(path, offset=len(items), limit=200):
            items += page
        return items

    def tasks(self, flow_run: str) -> list[dict[str, Any]]:
        return self.read("task_runs/filter", flow_runs={"id": {"any_": [flow_run]}}, limit=200)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("prefect")
    shutil.copy(EMPTY_DATABASE, folder)  # the server would make the same one, for 15 s
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ, "PREFECT_HOME": str(folder), "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "NANOCHAT_HOME": str(folder / "home"),
        "NANOCHAT_TEST_API_KEY": CANARY, "PREFECT_WORKER_QUERY_SECONDS": "2",
    }  # fmt: skip
    children = []

    def start(command: list[str], *more: str) -> None:
        log = (folder / f"{command[1]}.log").open("wb")
        child = subprocess.Popen(
            [*_found(command), *more], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        children.append(child)

    try:
        start(START, "--port", str(port))
        _wait_for(f"http://127.0.0.1:{port}/api/health", folder / "server.log")
        _finish(POOL, environment)
        _finish(DEPLOY, environment)
        start(WORK)
        yield Server(f"http://127.0.0.1:{port}/api", environment, folder / "home")
    finally:
        for child in reversed(children):
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _wait_for(address: str, log: Path) -> None:
    for _ in range(240):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


def _found(command: list[str]) -> list[str]:
    return [str(Path(sys.executable).with_name(command[0])), *command[1:]]


def _finish(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(_found(command), env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def run_ids(server: Server) -> list[str]:
    """The same deployment run twice, one after the other: ids of both flow runs."""
    for _ in range(2):
        _finish([*RUN, "--watch", "--watch-interval", "2"], server.environment)
    deployed = {"deployment_id": {"is_null_": False}}
    runs = server.read("flow_runs/filter", flow_runs=deployed, sort="START_TIME_ASC")
    assert [run["state_name"] for run in runs] == ["Completed", "Completed"]
    return [run["id"] for run in runs]


def _states(server: Server, flow_run: str) -> dict[str, set[str]]:
    """Stage id -> names of the final states of its task runs."""
    states: dict[str, set[str]] = {}
    for task in server.tasks(flow_run):
        states.setdefault(task["name"].split()[0].partition("/")[0], set()).add(task["state_name"])
    return states


def test_the_first_run_builds_every_stage(server: Server, run_ids: list[str]) -> None:
    by_stage = _states(server, run_ids[0])
    assert [by_stage.get(stage) for stage in STAGE_IDS] == [{"Completed"}] * len(STAGE_IDS)


def test_the_second_run_shows_every_stage_cached(server: Server, run_ids: list[str]) -> None:
    by_stage = _states(server, run_ids[1])
    assert [by_stage.get(stage) for stage in STAGE_IDS] == [{"Cached"}] * len(STAGE_IDS)


def test_a_task_run_says_depth_artifact_and_kind(server: Server, run_ids: list[str]) -> None:
    base = next(task for task in server.tasks(run_ids[0]) if task["name"].startswith("base "))
    assert base["name"] == "base d2 base/tiny"
    assert {"nanochat", "base", "tiny", "torchrun"} <= set(base["tags"])
    assert base["empirical_policy"]["retries"] == 1


def test_tables_progress_and_curves_are_prefect_artifacts(server: Server, run_ids: list[str]) -> None:
    artifacts = {artifact["key"]: artifact for artifact in server.everything("artifacts/filter")}
    for stage in STAGE_IDS:
        rows = json.loads(artifacts[f"tiny-{stage}-metrics"]["data"])
        assert rows[0]["name"] == "artifact"
        assert float(artifacts[f"tiny-{stage}-progress"]["data"]) == 100
    for stage in ("base", "mid", "sft", "rl"):
        assert artifacts[f"tiny-{stage}-loss"]["data"].startswith(
            f"![{stage} of tiny](data:image/png;base64,"
        )
    run = json.loads(artifacts["tiny-run"]["data"])
    assert [row["stage"] for row in run] == list(STAGE_IDS)


def test_a_stage_reaches_the_logs_of_the_flow_run_without_flooding(
    server: Server, run_ids: list[str]
) -> None:
    logs = [log for log in server.everything("logs/filter") if log["flow_run_id"] == run_ids[0]]
    text = "\n".join(log["message"] for log in logs)
    assert "base: running" in text
    assert "step" in text, "nothing of what the program itself printed"
    assert len(logs) < 400


def test_training_was_started_by_torchrun(server: Server, run_ids: list[str]) -> None:
    for stage in ("base", "mid", "sft", "rl"):
        program = Path(sys.executable).with_name("nanochat")
        shown = subprocess.run(
            [program, "art", "show", f"{stage}/tiny@v1", "--json"], env=server.environment,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        settings = json.loads(shown.stdout)["provenance"]["settings"]
        assert "torch.distributed.run" in settings["parent"]
        assert settings["torchrun"]


@pytest.mark.criterion("T90")
def test_a_secret_of_the_environment_reaches_neither_server_nor_store(
    server: Server, run_ids: list[str]
) -> None:
    shown = json.dumps(
        [server.everything("artifacts/filter"), server.everything("logs/filter"), server.tasks(run_ids[0])]
    )
    assert "tiny-base-metrics" in shown
    assert CANARY not in shown
    holders = [
        path for path in server.home.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert holders == []


def test_a_bad_parameter_is_refused_before_anything_runs(server: Server, run_ids: list[str]) -> None:
    wrong = [argument.replace("preset", "prest") for argument in RUN]
    done = subprocess.run(_found(wrong), env=server.environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "prest" in done.stdout + done.stderr


@pytest.mark.criterion("T95")
def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(
    server: Server, run_ids: list[str], tmp_path: Path, nanochat: Command
) -> None:
    moments = random.Random(95)
    home, where = tmp_path / "home", {"PREFECT_API_URL": server.api}
    finished: list[str] = []
    for stage in KILLED:
        finished += _kill_in(stage, moments.uniform(0, 4), {**where, "NANOCHAT_HOME": str(home)})
    end = _results(nanochat("run", "tiny", "--json", home=home, **where))
    finished += [line["stage"] for line in end if line["status"] == "ran"]
    assert sorted(finished) == sorted(set(finished)), "a finished stage ran again"
    undisturbed = _results(nanochat("run", "tiny", "--json", home=server.home))
    assert _digests(end) == _digests(undisturbed)
    reports = []
    for number, place in enumerate((home, server.home)):  # a report also shows times: its results count
        folder = tmp_path / f"report{number}"
        nanochat("art", "get", "report/tiny@v1", str(folder), home=place)
        reports.append(json.loads((folder / "report.json").read_text(encoding="utf-8"))["results"])
    assert reports[0] == reports[1]
    assert {line["artifact"].rpartition("@")[2] for line in end} == {"v1"}
    nanochat("art", "verify", home=home)


def _results(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def _digests(lines: list[dict[str, Any]]) -> dict[str, str]:
    return {line["stage"]: line["digest"] for line in lines if line["stage"] != "report"}


def _kill_in(stage: str, seconds: float, where: dict[str, str]) -> list[str]:
    """SIGKILL a run's process so many seconds after ``stage`` began, or as it ends if that is sooner.

    Returns the stages which that process had finished.
    """
    program = Path(sys.executable).with_name("nanochat")
    flow = subprocess.Popen(
        [program, "run", "tiny"], env={**os.environ, **where},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said: list[list[str]] = []
    began, ended = threading.Event(), threading.Event()

    def listen() -> None:
        for line in flow.stderr or ():
            said.append(line.split())
            if said[-1][:2] in ([stage, "running"], [stage, "resuming"]):
                began.set()
            elif said[-1][:2] == [stage, "ran"]:
                ended.set()
        ended.set()

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        while not began.wait(timeout=1):
            assert not ended.is_set(), f"{stage} never began: {said}"
        ended.wait(timeout=seconds)
    finally:
        flow.kill()
        flow.wait()
        listener.join()
    return [words[0] for words in said if words[1:2] == ["ran"] and words[0] != "tokenize-shard"]
