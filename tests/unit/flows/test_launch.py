"""A stage's process: what is started, how it is stopped, and what its end means."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from artifacts.errors import NanochatError, ResourceError, UsageError
from flows import launch
from flows.dispatch.cluster import Cluster
from flows.launch import STOP, Interrupted, Job, StageKilled, command, environment

NAMED: ContextVar[str] = ContextVar("named", default="")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "log.txt").write_text("")
    return Job("base", "nanochat.stages.base", tmp_path)


@pytest.fixture
def torchrun_job(job: Job) -> Job:
    return Job(job.stage, job.module, job.attempt, torchrun=True, ranks=4)


def start(job: Job, script: str, monkeypatch: pytest.MonkeyPatch, tick: object = None) -> list[str]:
    """Run a shell script as the stage's process; returns the records of what it printed."""
    monkeypatch.setattr(launch, "command", lambda _: ["sh", "-c", script])
    said: list[str] = []
    launch.run(job, log=lambda text, urgent: said.append(text), tick=tick or (lambda: None))
    return said


def test_a_plain_stage_dies_with_its_parent_and_reads_its_job(job: Job) -> None:
    wrapper = [sys.executable, "-m", "flows.processes.exec_wrapper", "SIGKILL", sys.executable]
    assert command(job) == [*wrapper, "-m", job.module, "--job", str(job.attempt / "job.json")]


def test_torchrun_starts_the_ranks_and_gets_a_signal_that_it_can_pass_on(torchrun_job: Job) -> None:
    arguments = command(torchrun_job)
    assert arguments[3] == "SIGTERM"
    assert arguments[5:9] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    assert arguments[-4:-1] == ["-m", "nanochat.stages.base", "--job"]


def test_on_several_nodes_each_starts_its_share_and_node_0_opens_the_rendezvous(torchrun_job: Job) -> None:
    first, second = (
        replace(torchrun_job, cluster=Cluster(2, rank, "127.0.0.1:29400", patience_s=70)) for rank in range(2)
    )
    arguments = command(first)
    assert arguments[7:14] == [
        "--nnodes=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:29400",
        f"--rdzv-id={torchrun_job.attempt.name}", "--rdzv-conf=is_host=1,join_timeout=70",
        "--local-addr=127.0.0.1", "--nproc-per-node=2",
    ]  # fmt: skip
    assert "--rdzv-conf=is_host=0,join_timeout=70" in command(second)
    assert [environment(job, {}).get("NANOCHAT_FIRST_RANK") for job in (first, second)] == ["0", "2"]
    assert environment(torchrun_job, {}).get("NANOCHAT_FIRST_RANK") is None
    with pytest.raises(UsageError, match="nproc = 4 processes cannot be shared by 3 nodes"):
        command(replace(torchrun_job, cluster=Cluster(3, 0, "127.0.0.1:29400")))


def test_several_ranks_put_their_names_before_their_lines(torchrun_job: Job) -> None:
    assert "--tee=3" in command(torchrun_job)
    assert "--tee=3" not in command(replace(torchrun_job, ranks=1))
    prefix = "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"
    assert environment(torchrun_job, {})[prefix] == "[rank${rank}]: "
    elsewhere = replace(torchrun_job, cluster=Cluster(2, 1, "127.0.0.1:29400"))
    assert environment(elsewhere, {})[prefix] == "[node1 ${local_rank}]: "


def test_the_childs_environment_is_the_users_without_prefects(job: Job) -> None:
    env = environment(job, {"PATH": "/bin", "PREFECT_API_KEY": "secret", "OMP_NUM_THREADS": "3"})
    assert env["PATH"] == "/bin"
    assert env["OMP_NUM_THREADS"] == "3"
    assert env["NANOCHAT_PARENT_PID"] == str(os.getpid())
    assert [name for name in env if name.startswith("PREFECT_")] == []
    assert env["GOMP_SPINCOUNT"] == "1000"
    assert environment(job, {"GOMP_SPINCOUNT": "7"})["GOMP_SPINCOUNT"] == "7"


def test_what_one_stage_compiles_is_where_the_next_one_looks(job: Job, torchrun_job: Job) -> None:
    first, second = environment(torchrun_job, {}), environment(replace(torchrun_job, attempt=job.attempt), {})
    assert first["TORCHINDUCTOR_CACHE_DIR"] == second["TORCHINDUCTOR_CACHE_DIR"]
    assert (
        environment(torchrun_job, {"TORCHINDUCTOR_CACHE_DIR": "/mine"})["TORCHINDUCTOR_CACHE_DIR"] == "/mine"
    )


def test_ranks_share_the_cores(job: Job, torchrun_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert environment(job, {})["OMP_NUM_THREADS"] == "8"
    assert environment(torchrun_job, {})["OMP_NUM_THREADS"] == "2"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert environment(torchrun_job, {})["OMP_NUM_THREADS"] == "1"


def test_overlapping_stages_share_them_too(torchrun_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert environment(replace(torchrun_job, overlap=True), {})["OMP_NUM_THREADS"] == "2"
    assert environment(torchrun_job, {})["OMP_NUM_THREADS"] == "4"


def test_what_the_child_prints_is_in_the_log_and_passed_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    said = start(job, "echo one; echo two >&2; printf 'no end'", monkeypatch)
    assert "\n".join(said).splitlines() == ["one", "two", "no end"]
    start(job, "echo again", monkeypatch)
    assert job.log.read_text().splitlines() == ["one", "two", "no end", "again"]


def test_what_an_earlier_attempt_said_of_its_failure_is_forgotten(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.failure.write_text('{"exit_code": 2, "message": "of yesterday"}')
    with pytest.raises(NanochatError, match="exit code 1: today"):
        start(job, "echo today; exit 1", monkeypatch)


@pytest.mark.parametrize("end", ["exit 1", "kill -9 $$"])
def test_the_last_lines_before_a_crash_are_kept(end: str, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; printf 'last words'; {end}"
    with pytest.raises(NanochatError):
        start(job, script, monkeypatch)
    assert job.log.read_text().splitlines() == [*(f"line {number}" for number in range(3000)), "last words"]


def test_the_child_never_waits_for_what_a_tick_waits_for(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = job.attempt / "printed"
    script = f"sleep 1.5; head -c 300000 /dev/zero | tr '\\0' 'x' | fold; touch {printed}"

    def tick() -> None:
        deadline = time.monotonic() + 60
        while not printed.exists():
            assert time.monotonic() < deadline, "the child is blocked in write"
            time.sleep(0.05)

    start(job, script, monkeypatch, tick)


def test_what_it_prints_is_passed_on_as_if_by_the_caller(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "command", lambda _: ["echo", "hello"])
    NAMED.set("settings of this run")
    seen: list[str] = []
    launch.run(job, log=lambda text, urgent: seen.append(NAMED.get()), tick=lambda: None)
    assert seen == ["settings of this run"]


def test_a_signal_that_reaches_stage_and_run_at_once_is_a_stop(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch.time, "sleep", lambda _: setattr(STOP, "pulls", 1))
    with pytest.raises(Interrupted):
        start(job, "kill -TERM $$", monkeypatch)
    STOP.pulls = 0
    monkeypatch.setattr(launch.time, "sleep", lambda _: None)
    with pytest.raises(StageKilled, match="told to stop by something outside this run"):
        start(job, "kill -TERM $$", monkeypatch)


def test_of_an_earlier_attempt_no_error_is_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError, match="ran out of memory: MemoryError"):
        start(job, "echo MemoryError; exit 1", monkeypatch)
    with pytest.raises(NanochatError, match="exit code 1: it printed nothing"):
        start(job, "exit 1", monkeypatch)


def test_a_process_left_behind_with_our_pipe_does_not_keep_the_stage_running(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = start(job, "sleep 30 & echo $!", monkeypatch)
    left_behind = int(said[0])
    assert psutil.Process(left_behind).status() == psutil.STATUS_SLEEPING, "the stage waited for it"
    os.kill(left_behind, signal.SIGKILL)


def test_if_the_lease_is_lost_the_child_is_ended_first(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise ResourceError("the lease was taken over")

    with pytest.raises(ResourceError, match="lease"):
        start(job, f"echo $$ > {job.attempt / 'pid'}; exec sleep 30 > /dev/null", monkeypatch, lost)
    with pytest.raises(ProcessLookupError):
        os.kill(int((job.attempt / "pid").read_text()), 0)


def test_nothing_is_started_after_a_stop(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    STOP.pulls = 1
    with pytest.raises(Interrupted, match="the same command resumes it"):
        start(job, f"touch {job.attempt / 'started'}", monkeypatch)
    assert not (job.attempt / "started").exists()


@pytest.mark.parametrize(("pulls", "ended_by"), [(1, -signal.SIGTERM), (2, -signal.SIGKILL)])
def test_the_first_stop_asks_and_the_second_ends(pulls: int, ended_by: int) -> None:
    stop = launch.Stop()
    ignore = "trap '' TERM; " if pulls == 2 else ""
    script = f"{ignore}echo ready; for i in $(seq 400); do sleep 0.05; done"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with stop.covering(child):
            for _ in range(pulls):
                stop.pull()
            assert child.wait() == ended_by


def test_a_child_that_starts_while_the_stop_is_pulled_is_stopped_too() -> None:
    stop = launch.Stop()
    stop.pull()
    with subprocess.Popen(["sleep", "20"]) as child, stop.covering(child):
        assert child.wait() == -signal.SIGTERM


def test_an_attempt_that_another_process_works_in_is_refused_after_a_while(job: Job) -> None:
    with (job.attempt / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(ResourceError, match="another process still works in"),
            launch._attempt_lock(job.attempt, patience_s=-1),
        ):
            pytest.fail("the lock was held twice")
    with launch._attempt_lock(job.attempt, patience_s=-1) as descriptor:
        assert descriptor > 2
