"""``tiny`` on what ``nanochat up`` starts: run by a worker, read back from Prefect's API and the web app."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
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

import psutil
import pytest

from flows.dag import STAGE_IDS

CANARY = "canary-7f3a91c2-never-store-this"
KILLED = ("shards", "tokenizer", "tokenize-shard", "base", "eval-base", "sft", "rl", "report")

# What the quick start tells people to type, word for word.
_DOCS = Path(__file__).parents[2] / "docs"
HOWTO = _DOCS / "howto"
_PAGE = (_DOCS / "08_quickstart.md").read_text(encoding="utf-8")
RUN = shlex.split(re.findall(r"^(prefect deployment run .*)$", _PAGE, re.MULTILINE)[0])

Command = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Server:
    """What was started, the environment of a terminal beside it, and the home folder of its runs."""

    api: str
    web: str
    environment: dict[str, str]
    home: Path

    def read(self, path: str, **query: Any) -> Any:
        request = urllib.request.Request(
            f"{self.api}/{path}", json.dumps(query).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.api}/{path}", timeout=30) as answer:
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
    port, web_port = free_ports()
    api = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ, "PREFECT_HOME": str(folder), "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "NANOCHAT_HOME": str(folder / "home"), "NANOCHAT_TEST_API_KEY": CANARY,
        "NANOCHAT_FAULT_FILE": str(folder / "fault"),
    }  # fmt: skip
    try:
        said = _finish(["nanochat", "up", "--port", str(port), "--web-port", str(web_port)], environment)
        assert api in said
        environment["PREFECT_API_URL"] = api
        yield Server(api, f"http://127.0.0.1:{web_port}", environment, folder / "home")
    finally:
        services = _services(folder / "home")
        _finish(["nanochat", "down"], environment)
        assert [pid for pid in services if psutil.pid_exists(pid)] == []
        assert "nothing" in _finish(["nanochat", "down"], environment)


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _services(home: Path) -> list[int]:
    """Every process that was started, with all that these started."""
    state = home / "services/state.json"
    if not state.exists():
        return []
    supervisor = psutil.Process(json.loads(state.read_text())["pid"])
    return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]


def _found(command: list[str]) -> list[str]:
    return [str(Path(sys.executable).with_name(command[0])), *command[1:]]


def _finish(command: list[str], environment: dict[str, str]) -> str:
    """Run a command that has to succeed; what it printed."""
    done = subprocess.run(_found(command), env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


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


def test_a_run_links_to_its_artifacts_and_they_link_back(server: Server, run_ids: list[str]) -> None:
    artifacts = {artifact["key"]: artifact for artifact in server.everything("artifacts/filter")}
    links = re.findall(r"\]\((http://[^)]+)\)", artifacts["tiny-artifacts"]["data"])
    assert [link.rpartition("/artifacts/")[2].partition("/")[0] for link in links].count("eval") == 4
    assert f"{server.web}/artifacts/base/tiny@v1" in links
    (report,) = [link for link in links if link.endswith(".html")]
    with urllib.request.urlopen(report, timeout=30) as answer:
        assert "<h1" in answer.read().decode()
    for link in set(links) - {report}:
        with urllib.request.urlopen(link, timeout=30) as answer:
            assert f"/runs/flow-run/{run_ids[0]}" in answer.read().decode()


def test_a_second_up_finds_the_first(server: Server) -> None:
    assert server.web in _finish(["nanochat", "up"], server.environment)


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


def _run(server: Server, deployment: str, **params: Any) -> dict[str, Any]:
    """Run a deployment to its end; the flow run."""
    its_id = server.get(f"deployments/name/{deployment}/{deployment}")["id"]
    started = server.read(f"deployments/{its_id}/create_flow_run", parameters={"params": params})
    return _ended(server, started["id"])


def _ended(server: Server, flow_run: str) -> dict[str, Any]:
    for _ in range(240):
        run = server.get(f"flow_runs/{flow_run}")
        if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return run
        time.sleep(0.5)
    pytest.fail(f"it did not end: {run['state']}")


def test_nights_are_compared_and_a_night_without_change_is_found(server: Server, run_ids: list[str]) -> None:
    asked = {"models": ["rl/tiny"], "tasks": ["arithmetic/easy"], "num_problems": 4}
    runs = [_run(server, "nightly-eval", **asked) for _ in range(2)]
    assert [run["state_name"] for run in runs] == ["Completed", "Completed"], runs[0]["state"]["message"]
    assert [_states(server, run["id"])["eval-rl"] for run in runs] == [{"Completed"}, {"Cached"}]
    artifacts = {artifact["key"]: artifact for artifact in server.everything("artifacts/filter")}
    (night,) = json.loads(artifacts["nightly-rl-tiny-latest"]["data"])
    assert night["model"] == "rl/tiny@v1"
    assert 0 <= night["arithmetic/easy"] <= 1
    assert "data:image/png;base64," in artifacts["nightly-rl-tiny-latest-trend"]["data"]


def test_a_model_that_does_not_end_fails_its_check(server: Server, run_ids: list[str]) -> None:
    failed = _run(server, "serve-check", model="rl/tiny", max_tokens=3)
    assert failed["state_name"] == "Failed"
    assert "rl/tiny@v1 did not end its answer within 3 tokens" in failed["state"]["message"]


@pytest.mark.criterion("T99")
def test_a_failed_run_says_why_and_a_retry_goes_on_from_the_last_checkpoint(
    server: Server, run_ids: list[str]
) -> None:
    fault = Path(server.environment["NANOCHAT_FAULT_FILE"])
    fault.write_text("base 5")
    failed = _run(server, "pipeline", preset="tiny", name="failing", set={"base.seed": 7}, until="base")
    assert failed["state_name"] == "Failed"
    assert "stage base: a planned fault at step 5" in failed["state"]["message"]
    fault.unlink()
    again = _retried(server, failed["id"])
    assert (again["state_name"], again["run_count"]) == ("Completed", 2)
    last = [task for task in server.tasks(failed["id"]) if task["flow_run_run_count"] == 2]
    states = {task["name"].split()[0]: task["state_name"] for task in last}
    assert states["shards"] == states["tokenizer"] == states["tokenize"] == "Cached"
    assert states["base"] == "Completed"
    sql = (
        "SELECT value FROM metrics WHERE artifact = 'base/failing@v1' AND name = 'stage/start' ORDER BY time"
    )
    starts = json.loads(_finish(["nanochat", "metrics", sql, "--json"], server.environment))
    assert [row["value"] for row in starts][-1] == 3, "its last checkpoint"
    listed = json.loads(_finish(["nanochat", "art", "ls", "--json"], server.environment))
    versions = [item["ref"] for item in listed if item["ref"].partition("@")[0].endswith("/failing")]
    assert sorted(versions) == [f"{kind}/failing@v1" for kind in ("base", "shards", "tokenizer", "tokens")]


def _killed_in_base(server: Server, service: str, seed: int) -> dict[str, Any]:
    """Kill a service while a run trains its base model; the run as it ended."""
    its_id = server.get("deployments/name/pipeline/pipeline")["id"]
    params = {"preset": "tiny", "name": f"no-{service}", "set": {"base.seed": seed}, "until": "base"}
    run = server.read(f"deployments/{its_id}/create_flow_run", parameters={"params": params})
    _until(lambda: any(task["name"].startswith("base ") for task in server.tasks(run["id"])))
    killed = _service_pids(server)[service]
    os.kill(killed, signal.SIGKILL)
    _until(lambda: _service_pids(server)[service] != killed and _is_well(server))
    return _ended(server, run["id"])


@pytest.mark.criterion("T96")
def test_a_killed_server_ends_no_run(server: Server, run_ids: list[str]) -> None:
    assert _killed_in_base(server, "server", 9)["state_name"] == "Completed"
    again = ["nanochat", "run", "tiny", "--name", "no-server", "--set", "base.seed=9", "--until", "base"]
    last = json.loads(_finish([*again, "--json"], server.environment).splitlines()[-1])
    assert (last["stage"], last["status"], last["artifact"]) == ("base", "cached", "base/no-server@v1")


def test_a_run_whose_worker_was_killed_can_be_retried(server: Server, run_ids: list[str]) -> None:
    run = _killed_in_base(server, "worker-cpu", 10)
    assert run["state_name"] == "Crashed"
    again = _retried(server, run["id"])
    assert (again["state_name"], again["run_count"]) == ("Completed", 2)


def _retried(server: Server, flow_run: str) -> dict[str, Any]:
    _finish(["prefect", "flow-run", "retry", flow_run], server.environment)
    return _ended(server, flow_run)


def _service_pids(server: Server) -> dict[str, int]:
    state = json.loads((server.home / "services/state.json").read_text(encoding="utf-8"))
    return {name: service["pid"] for name, service in state["services"].items()}


def _is_well(server: Server) -> bool:
    try:
        return bool(server.get("health"))
    except OSError:
        return False


def _until(condition: Callable[[], object]) -> None:
    for _ in range(240):
        if condition():
            return
        time.sleep(0.5)
    pytest.fail("it did not happen")


@pytest.mark.needs("chromium")
def test_from_the_form_to_an_artifacts_page(
    server: Server, run_ids: list[str], browser: Any, test_output: Path
) -> None:
    ui = server.api.removesuffix("/api")
    deployment = server.get("deployments/name/pipeline/pipeline")["id"]
    browser.open(f"{ui}/v2/deployments/deployment/{deployment}/run")
    browser.sees("Parameters")
    browser.click("button", "demo")
    browser.click("[role=option]", "tiny")
    browser.screenshot(test_output / "prefect-form.png")
    known = {run["id"] for run in server.everything("flow_runs/filter")}
    browser.click("button", "Submit")
    browser.sees("scheduled to start")
    (started,) = [run for run in server.everything("flow_runs/filter") if run["id"] not in known]
    assert started["parameters"]["params"]["preset"] == "tiny"
    assert _ended(server, started["id"])["state_name"] == "Completed"
    browser.open(f"{ui}/v2/runs/flow-run/{started['id']}?tab=Artifacts")
    browser.sees("Completed")
    browser.sees("tiny-base-metrics")
    browser.screenshot(test_output / "prefect-run.png")
    page = f"{server.web}/artifacts/base/tiny@v1"
    assert page in browser.evaluate("[...document.querySelectorAll('a')].map(a => a.href)")
    browser.open(page)  # a click would open another tab
    browser.sees("Used by")
    browser.screenshot(test_output / "artifact.png")
    browser.click("a", "this run")
    browser.sees("Task Runs")
    assert f"{ui}/runs/flow-run/" in browser.address.replace("/v2", "")


def test_gc_says_what_it_found(server: Server, run_ids: list[str]) -> None:
    assert _run(server, "gc", dry_run=True)["state_name"] == "Completed"
    artifacts = {artifact["key"]: artifact for artifact in server.everything("artifacts/filter")}
    assert {"what": "dry run", "value": True} in json.loads(artifacts["gc"]["data"])


def test_the_form_offers_the_presets(server: Server) -> None:
    deployment = server.get("deployments/name/pipeline/pipeline")
    fields = deployment["parameter_openapi_schema"]["definitions"]["PipelineParams"]["properties"]
    assert {"tiny", "demo", "speedrun"} <= set(fields["preset"]["enum"])


@pytest.mark.parametrize(
    "page", [HOWTO / "one_machine.md", HOWTO / "nightly_evals.md"], ids=lambda page: page.stem
)
def test_every_command_of_a_how_to_page_works(
    server: Server, run_ids: list[str], page: Path, commands_of: Callable[[Path], list[str]]
) -> None:
    """What runs is found by ``nanochat up``; ``nanochat down`` ends it after the last test."""
    _finish(["nanochat", "run", "tiny", "--name", "demo"], server.environment)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    typed = commands_of(page)
    assert (typed[0], typed[-1]) == ("nanochat up", "nanochat down")
    for command in typed[:-1]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], env={**server.environment, "PATH": path},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"


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
