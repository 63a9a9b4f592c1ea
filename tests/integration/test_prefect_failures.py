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


@pytest.mark.criterion("T99")
def test_a_failed_run_says_why_and_everything_that_asks_again_resumes_it(server: Any, store: Path) -> None:
    asked = _asked(store, 7, steps=12)
    server.fault.write_text("base 4")
    failed = server.run("pipeline", **asked)
    assert failed["state_name"] == "Failed"
    assert "stage base: a planned fault at step 4" in failed["state"]["message"]

    server.fault.write_text("base 7")
    same = server.run("pipeline", **asked)
    assert "a planned fault at step 7" in same["state"]["message"]
    states = server.states(same["id"])
    assert [states[stage] for stage in FINISHED] == [{"Cached"}] * 3
    assert states["base"] == {"Failed"}

    server.fault.write_text("base 11")
    command = "nanochat run tiny --name seed-7 --set base.seed=7 --set base.steps=12 --until base"
    assert "a planned fault at step 11" in server.terminal(f"{command} --store {store}").stderr

    server.fault.unlink()
    again = server.retried(failed["id"])
    assert (again["state_name"], again["run_count"]) == ("Completed", 2)
    states = server.states(failed["id"])
    assert [states[stage] for stage in FINISHED] == [{"Cached"}] * 3
    assert states["base"] == {"Completed"}
    assert _starts(server, store, 7) == [0, 3, 6, 9], "their last checkpoints"
    listed = json.loads(server.types(f"nanochat art ls --store {store} --json"))
    versions = [item["ref"] for item in listed if item["ref"].partition("@")[0].endswith("/seed-7")]
    assert sorted(versions) == [f"{kind}/seed-7@v1" for kind in ("base", "shards", "tokenizer", "tokens")]


@pytest.mark.needs("chromium")
def test_the_button_of_a_failed_run_resumes_it(
    server: Any, store: Path, browser: Any, test_output: Path
) -> None:
    server.fault.write_text("base 4")
    failed = server.run("pipeline", **_asked(store, 8))
    server.fault.unlink()
    browser.open(f"{server.ui}/v2/runs/flow-run/{failed['id']}")
    browser.sees("Failed")
    browser.click("button", "Open menu")
    browser.click("[role=menuitem]", "Retry")
    browser.sees("Retry the flow run")
    browser.screenshot(test_output / "prefect-retry.png")
    browser.click("[role=dialog] button, [role=alertdialog] button", "Retry")
    server.until(lambda: server.get(f"flow_runs/{failed['id']}")["run_count"] == 2)
    assert server.ended(failed["id"])["state_name"] == "Completed"
    assert _starts(server, store, 8) == [0, 3]


def _training(server: Any, store: Path, seed: int) -> str:
    """The id of a run that trains its base model and has saved a checkpoint."""
    known = {path.parent for path in store.glob("attempts/*/checkpoints/step-*")}
    run = server.start("pipeline", **_asked(store, seed, steps=400, checkpoint_every=10, eval_every=400))

    def has_saved() -> bool:
        assert not (ended := server.get(f"flow_runs/{run}")["end_time"]), f"ended at {ended}"
        return any(path.parent not in known for path in store.glob("attempts/*/checkpoints/step-*"))

    server.until(has_saved)
    return run


def _retried(server: Any, store: Path, seed: int, run: str) -> None:
    """It is Crashed; a retry completes it without training anything twice that was saved."""
    assert server.ended(run)["state_name"] == "Crashed"
    again = server.retried(run)
    assert (again["state_name"], again["run_count"]) == ("Completed", 2), again["state"]["message"]
    states = server.states(run)
    assert [states[stage] for stage in FINISHED] == [{"Cached"}] * 3
    assert _starts(server, store, seed)[-1] >= 10


def test_a_run_whose_process_was_killed_can_be_retried(server: Any, store: Path) -> None:
    run = _training(server, store, 9)
    running = {"state": {"type": {"any_": ["RUNNING"]}}}
    for flow in server.everything("flow_runs/filter", flow_runs=running, sort="START_TIME_ASC"):
        os.kill(int(flow["infrastructure_pid"]), signal.SIGKILL)
    _retried(server, store, 9, run)


def test_a_run_whose_worker_was_killed_can_be_retried(server: Any, store: Path) -> None:
    run = _training(server, store, 10)
    for worker in ("worker-cpu", "worker-gpu"):
        os.kill(server.services()[worker], signal.SIGKILL)
    _retried(server, store, 10, run)


@pytest.mark.criterion("T96")
def test_a_killed_server_ends_no_run(server: Any, store: Path) -> None:
    run = _training(server, store, 11)
    killed = server.services()["server"]
    os.kill(killed, signal.SIGKILL)
    server.until(lambda: server.services()["server"] != killed and server.is_well())
    assert server.ended(run)["state_name"] == "Completed"
    assert _starts(server, store, 11) == [0]


def test_after_a_reboot_up_says_which_runs_it_ended_and_they_can_be_retried(server: Any, store: Path) -> None:
    run = _training(server, store, 12)
    processes = server.processes()
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=30)
    server.up()
    assert server.get(f"flow_runs/{run}")["state_name"] == "Crashed", (
        "at once, not when its silence is noticed"
    )
    _retried(server, store, 12, run)


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
