"""What the end of a stage's process means."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from artifacts.errors import DataError, NanochatError, ResourceError, UsageError
from flows.dispatch.cluster import Cluster
from flows.launch import Job
from flows.processes.ending import Interrupted, StageKilled, failure_of

_TWO = Cluster(2, 0, "127.0.0.1:29400")
_REPORT = (
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n"
    "Root Cause (first observed failure):\n  rank      : 1 (local_rank: 1)\n  exitcode  : 1 (pid: 5)\n"
)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "log.txt").write_text("")
    return Job("base", "nanochat.stages.base", tmp_path)


@pytest.fixture
def torchrun_job(job: Job) -> Job:
    return replace(job, torchrun=True, ranks=4)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, NanochatError), (2, UsageError), (3, DataError), (4, ResourceError), (77, NanochatError),
     (143, StageKilled), (130, StageKilled), (-15, StageKilled), (-2, StageKilled),
     (137, StageKilled), (-9, StageKilled), (-11, StageKilled), (139, StageKilled)],
)  # fmt: skip
def test_an_exit_code_means_an_error(code: int, kind: type[NanochatError], job: Job) -> None:
    assert type(failure_of(job, code)) is kind


@pytest.mark.criterion("T98")
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-9, "stage base was killed (out of memory? The same command resumes it)"),
        (137, "stage base was killed (out of memory? The same command resumes it)"),
        (143, "stage base was told to stop by something outside this run (preempted? The same command"),
        (-15, "stage base was told to stop by something outside this run (preempted? The same command"),
        (-11, "stage base died of signal 11 (its log: "),
    ],
)
def test_a_signal_is_told_in_plain_words(code: int, said: str, job: Job) -> None:
    assert str(failure_of(job, code)).startswith(said)


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "[rank1]: torch.OutOfMemoryError: CUDA out of memory.",
        "[rank1]: [rank1]: torch.OutOfMemoryError: CUDA out of memory.",
        "MemoryError",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "OSError: [Errno 12] Cannot allocate memory",
    ],
)
def test_memory_that_ran_out_is_told_as_that(line: str, torchrun_job: Job) -> None:
    others = "[rank0]: RuntimeError: Connection closed by peer [127.0.0.1]:1\n"
    torchrun_job.log.write_text(f"start\n{line}\n{others}{_REPORT}")
    error = failure_of(torchrun_job, 1)
    assert isinstance(error, ResourceError)
    assert error.message.startswith("stage base ran out of memory: ")
    assert "rank" not in error.message
    assert error.hint == f"a smaller micro_batch needs less; its log: {torchrun_job.log}"


def test_torchrun_that_was_told_to_stop_before_its_ranks_could_save(torchrun_job: Job) -> None:
    line = "torch.distributed.elastic.multiprocessing.api.SignalException: Process 7 got signal: 15"
    torchrun_job.log.write_text(line + "\n")
    error = failure_of(torchrun_job, 1)
    assert isinstance(error, StageKilled)
    assert error.message == "stage base was told to stop by something outside this run"


def test_a_loss_that_is_not_a_number_is_told_by_the_stage_itself(torchrun_job: Job) -> None:
    said = {"exit_code": 1, "message": "sft: loss is nan at step 6", "hint": "lower the learning rate"}
    torchrun_job.failure.write_text(json.dumps(said))
    torchrun_job.log.write_text(_REPORT)
    assert (
        str(failure_of(torchrun_job, 1)) == "stage base: sft: loss is nan at step 6 (lower the learning rate)"
    )


def test_ranks_that_another_node_lost_may_be_tried_again(torchrun_job: Job) -> None:
    line = (
        "[node0 0]: [rank0]: RuntimeError: [pair.cc:545] Read error [127.0.0.1]:1: Connection reset by peer."
    )
    torchrun_job.log.write_text(f"{line}\n{_REPORT}")
    assert type(failure_of(torchrun_job, 1)) is NanochatError
    error = failure_of(replace(torchrun_job, cluster=_TWO), 1)
    assert isinstance(error, StageKilled)
    assert error.message == "stage base lost the ranks of another node"


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError", ResourceError,
         "stage base: of 2 nodes not all came within 600 s (start the same command on every node)"),
        ("torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: see", StageKilled,
         "stage base: the nodes cannot meet at 127.0.0.1:29400"),
    ],
)  # fmt: skip
def test_nodes_that_do_not_meet_are_told(
    line: str, kind: type[NanochatError], said: str, torchrun_job: Job
) -> None:
    torchrun_job.log.write_text(line + "\n")
    error = failure_of(replace(torchrun_job, cluster=_TWO), 1)
    assert type(error) is kind
    assert str(error).startswith(said)


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
    assert isinstance(failure_of(job, 1, asked=True), Interrupted)
    assert isinstance(failure_of(job, 137, asked=True), Interrupted)


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("start\nValueError: bad\n  in a frame\nbye\n", "ValueError: bad"),
        (f"[rank0]: [rank0]: KeyError: 5\n{_REPORT}", "KeyError: 5"),
        ("ValueError: bad\nConnectionResetError: Connection reset by peer\n", "ValueError: bad"),
        ("start\nlast words\n\n", "last words"),
        ("", "it printed nothing"),
    ],
)
def test_a_bug_is_told_in_one_line_with_the_log(log: str, line: str, job: Job) -> None:
    job.log.write_text(log)
    assert str(failure_of(job, 1)) == f"stage base failed with exit code 1: {line} (its log: {job.log})"


def test_what_stood_in_the_log_before_does_not_count(torchrun_job: Job) -> None:
    before = "MemoryError\nexitcode  : -9 (pid: 5)\n"
    torchrun_job.log.write_text(before + "KeyError: 5\n")
    assert isinstance(failure_of(torchrun_job, 1), StageKilled)
    assert failure_of(torchrun_job, 1, log_start=len(before)).message.endswith("exit code 1: KeyError: 5")
