"""A stage's process: what is started, how it is stopped, and what its end means."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from artifacts.errors import DataError, NanochatError, ResourceError, UsageError
from flows import launch
from flows.launch import STOP, Interrupted, Job, StageKilled, command, environment, failure_of


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
    wrapper = [sys.executable, "-m", "flows.exec_wrapper", "SIGKILL", sys.executable]
    assert command(job) == [*wrapper, "-m", job.module, "--job", str(job.attempt / "job.json")]


def test_torchrun_starts_the_ranks_and_gets_a_signal_that_it_can_pass_on(torchrun_job: Job) -> None:
    arguments = command(torchrun_job)
    assert arguments[3] == "SIGTERM"
    assert arguments[5:9] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    assert arguments[-4:-1] == ["-m", "nanochat.stages.base", "--job"]


def test_the_childs_environment_is_the_users_without_prefects(job: Job) -> None:
    env = environment(job, {"PATH": "/bin", "PREFECT_API_KEY": "secret", "OMP_NUM_THREADS": "3"})
    assert env["PATH"] == "/bin"
    assert env["OMP_NUM_THREADS"] == "3"
    assert env["NANOCHAT_PARENT_PID"] == str(os.getpid())
    assert [name for name in env if name.startswith("PREFECT_")] == []


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


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, NanochatError), (2, UsageError), (3, DataError), (4, ResourceError), (77, NanochatError),
     (143, Interrupted), (130, Interrupted), (-15, Interrupted), (-2, Interrupted),
     (137, StageKilled), (-9, StageKilled), (-11, StageKilled)],
)  # fmt: skip
def test_an_exit_code_means_an_error(code: int, kind: type[NanochatError], job: Job) -> None:
    assert type(failure_of(job, code)) is kind


def test_what_the_program_said_comes_before_its_exit_code(torchrun_job: Job) -> None:
    said = {"exit_code": 4, "message": "no space", "hint": "free some"}
    torchrun_job.failure.write_text(json.dumps(said))
    error = failure_of(torchrun_job, 1)
    assert isinstance(error, ResourceError)
    assert str(error) == "stage base: no space (free some)"


@pytest.mark.parametrize(
    ("report", "kind"), [("-9", StageKilled), (" -11", StageKilled), ("1", NanochatError)]
)
def test_a_rank_that_could_say_nothing_is_found_in_torchruns_report(
    report: str, kind: type[NanochatError], torchrun_job: Job
) -> None:
    torchrun_job.log.write_text(f"Root Cause:\n  rank      : 1\n  exitcode  : {report} (pid: 5)\n")
    assert type(failure_of(torchrun_job, 1)) is kind


def test_after_a_stop_every_failure_is_a_stop(job: Job) -> None:
    STOP.pulls = 1
    assert isinstance(failure_of(job, 1), Interrupted)


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("start\nValueError: bad\n  in a frame\nbye\n", "ValueError: bad"),
        ("[rank0]:torch.OutOfMemoryError: too big\n", "[rank0]:torch.OutOfMemoryError: too big"),
        ("start\nlast words\n\n", "last words"),
        ("", "it printed nothing"),
    ],
)
def test_a_bug_is_told_in_one_line_with_the_log(log: str, line: str, job: Job) -> None:
    job.log.write_text(log)
    assert str(failure_of(job, 1)) == f"stage base failed with exit code 1: {line} (its log: {job.log})"


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
