"""Whatever ended a run, asking again goes on from the last checkpoint, with what was finished found."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

KILLED = ("shards", "tokenizer", "tokenize-shard", "base", "eval-base", "sft", "rl", "report")
FINISHED = ("shards", "tokenizer", "tokenize")

Command = Callable[..., subprocess.CompletedProcess[str]]


def _asked(store: Path, seed: int, **settings: int) -> dict[str, Any]:
    """The parameters of a run that trains one base model."""
    dials = {f"base.{name}": value for name, value in {"seed": seed, **settings}.items()}
    return {"preset": "tiny", "name": f"seed-{seed}", "set": dials, "store": str(store), "until": "base"}


def _starts(server: Any, store: Path, seed: int) -> list[int]:
    """The steps at which each attempt at a model began."""
    sql = f"SELECT value FROM metrics WHERE artifact = 'base/seed-{seed}@v1' AND name = 'stage/start'"
    rows = json.loads(server.types(f'nanochat metrics "{sql} ORDER BY time" --store {store} --json'))
    return [row["value"] for row in rows]


def _check_states(server: Any, run: str, base: str) -> None:
    states = server.states(run)
    assert [states[stage] for stage in FINISHED] == [{"Cached"}] * 3
    assert states["base"] == {base}


@dataclass(frozen=True)
class Failed:
    """A run that failed at step 4 of 12 and saves after every third, and what was asked of it."""

    run: dict[str, Any]
    asked: dict[str, Any]


@pytest.fixture(scope="module")
def failed(server: Any, store: Path) -> Failed:
    asked = _asked(store, 7, steps=12)
    server.fault.write_text("base 4")
    return Failed(server.run("pipeline", **asked), asked)


@pytest.mark.criterion("T98")
def test_a_failed_run_says_what_and_where_and_leaves_no_artifact(
    server: Any, store: Path, failed: Failed
) -> None:
    assert failed.run["state_name"] == "Failed"
    assert "stage base: a planned fault at step 4" in failed.run["state"]["message"]
    _check_states(server, failed.run["id"], "Failed")
    assert json.loads(server.types(f"nanochat art ls base/seed-7 --store {store} --json")) == []


def test_a_new_run_with_the_same_parameters_resumes_it(server: Any, failed: Failed) -> None:
    server.fault.write_text("base 7")
    same = server.run("pipeline", **failed.asked)
    assert "a planned fault at step 7" in same["state"]["message"]
    _check_states(server, same["id"], "Failed")


def test_the_command_line_resumes_it(server: Any, store: Path, failed: Failed) -> None:
    server.fault.write_text("base 10")
    command = "nanochat run tiny --name seed-7 --set base.seed=7 --set base.steps=12 --until base"
    done = server.terminal(f"{command} --store {store}")
    assert done.returncode == 1
    assert "a planned fault at step 10" in done.stderr


@pytest.mark.needs("chromium")
def test_the_button_of_the_failed_run_resumes_it(
    server: Any, store: Path, failed: Failed, browser: Any, test_output: Path
) -> None:
    server.fault.unlink()
    browser.open(f"{server.ui}/v2/runs/flow-run/{failed.run['id']}")
    browser.sees("Failed")
    browser.click("button", "Open menu")
    browser.click("[role=menuitem]", "Retry")
    browser.sees("Retry the flow run")
    browser.screenshot(test_output / "prefect-retry.png")
    browser.click("[role=dialog] button, [role=alertdialog] button", "Retry")
    server.until(lambda: server.get(f"flow_runs/{failed.run['id']}")["run_count"] == 2)
    assert server.ended(failed.run["id"])["state_name"] == "Completed"
    _check_states(server, failed.run["id"], "Completed")
    assert _starts(server, store, 7) == [0, 3, 6, 9], "the last checkpoint of each attempt before"


def _saved(store: Path) -> int:
    """The step of the newest checkpoint of unfinished work; 0 if there is none."""
    steps = (path.name.partition("-")[2] for path in store.glob("attempts/*/checkpoints/step-*"))
    return max(map(int, steps), default=0)


def _trains(server: Any, store: Path, run: str) -> None:
    """Wait until the run has saved another checkpoint."""
    before = _saved(store)

    def has_saved() -> bool:
        assert server.get(f"flow_runs/{run}")["state_type"] not in ("COMPLETED", "FAILED")
        return _saved(store) > before

    server.until(has_saved)


def _kill_flows(server: Any) -> None:
    """First the run's own process, then that of its stage."""
    running = {"state": {"type": {"any_": ["RUNNING"]}}}
    for flow in server.everything("flow_runs/filter", flow_runs=running, sort="START_TIME_ASC"):
        os.kill(int(flow["infrastructure_pid"]), signal.SIGKILL)


def _kill_workers(server: Any) -> None:
    for worker in ("worker-cpu", "worker-gpu"):
        os.kill(server.services()[worker], signal.SIGKILL)


def _reboot(server: Any) -> None:
    """All processes at once; then somebody types ``nanochat up``, which finds the runs that are lost.

    What was switched on stays on.
    """
    gc = server.deployment("gc")
    weekly = f"deployments/{gc['id']}/schedules/{gc['schedules'][0]['id']}"
    server.asks("PATCH", weekly, {"active": True})
    processes = server.processes()
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # they end with the supervisor, which is the first
            process.kill()
    psutil.wait_procs(processes, timeout=30)
    server.up()
    under_way = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
    assert server.everything("flow_runs/filter", flow_runs=under_way) == []
    assert [schedule["active"] for schedule in server.deployment("gc")["schedules"]] == [True]
    server.asks("PATCH", weekly, {"active": False})


@pytest.mark.criterion("T96", "T99")
def test_whatever_is_killed_the_run_goes_on_from_its_last_checkpoint(server: Any, store: Path) -> None:
    run = server.start("pipeline", **_asked(store, 9, steps=1000, checkpoint_every=10, eval_every=1000))
    for kill in (_kill_flows, _kill_workers, _reboot):
        _trains(server, store, run)
        kill(server)
        assert server.ended(run)["state_name"] == "Crashed", kill.__name__
        server.retry(run)
    _trains(server, store, run)
    killed = server.services()["server"]  # which ends no run
    os.kill(killed, signal.SIGKILL)
    server.until(lambda: server.services()["server"] != killed and server.is_well())
    assert server.ended(run)["state_name"] == "Completed"
    _check_states(server, run, "Completed")
    starts = _starts(server, store, 9)
    assert len(starts) == 4
    assert starts[0] == 0
    assert starts == sorted(set(starts)), "each began where the one before had saved"
    listed = json.loads(server.types(f"nanochat art ls --store {store} --json"))
    versions = [item["ref"] for item in listed if item["ref"].partition("@")[0].endswith("/seed-9")]
    assert sorted(versions) == [f"{kind}/seed-9@v1" for kind in ("base", "shards", "tokenizer", "tokens")]


@pytest.mark.criterion("T95")
def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(
    server: Any, own_home: Path, tmp_path: Path, nanochat: Command
) -> None:
    moments = random.Random(95)
    home, where = tmp_path / "killed", {"PREFECT_API_URL": f"{server.ui}/api"}
    finished: list[str] = []
    for stage in KILLED:
        finished += _kill_in(stage, moments.uniform(0, 4), {**where, "NANOCHAT_HOME": str(home)})
    end = _results(nanochat("run", "tiny", "--json", home=home, **where))
    finished += [line["stage"] for line in end if line["status"] == "ran"]
    assert sorted(finished) == sorted(set(finished)), "a finished stage ran again"
    undisturbed = _results(nanochat("run", "tiny", "--json", home=own_home))
    assert _digests(end) == _digests(undisturbed)
    reports = []
    for number, place in enumerate((home, own_home)):  # a report also shows times: its results count
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
