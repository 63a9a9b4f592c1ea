"""What the end of a stage's process means, in words that say what to do."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import BY_EXIT_CODE, NanochatError, ResourceError

if TYPE_CHECKING:
    from flows.launch import Job

_AGAIN = "the same command resumes it"
_RANK_EXIT = re.compile(r"exitcode\s*:\s*(-?\d+)")
_PREFIX = re.compile(r"(?:\[[\w ]+\]:\s*)+")  # of ranks, by torchrun and by PyTorch
_ERROR = re.compile(r"(?!.*ChildFailedError)[\w.]*(?:Error|Exception)\b")
_MEMORY = re.compile(
    r"OutOfMemoryError|\bMemoryError\b|CUDA out of memory|bad_alloc|an(?:no|')t allocate memory"
)
_PEERS = re.compile(
    r"Connection (?:closed by peer|reset|refused)|Broken pipe|remote process exited|DistNetworkError"
)
_TOLD = re.compile(r"SignalException: .* got signal: (\d+)")
_LATE = re.compile(r"RendezvousTimeoutError")
_NO_RENDEZVOUS = re.compile(r"RendezvousConnectionError|RendezvousClosedError")


class Interrupted(NanochatError):
    """The run was asked to stop, and did."""

    code = "interrupted"
    exit_code = 130


class StageKilled(NanochatError):
    """Something outside ended the stage's process; trying again may help."""

    code = "killed"


def failure_of(job: Job, code: int, *, asked: bool = False, log_start: int = 0) -> NanochatError:
    """The error that an exit code means, in the program's own words where it left any.

    ``asked``: this run told the stage to stop. ``log_start``: where this attempt's log begins.
    """
    if asked:
        return Interrupted(f"stage {job.stage} was stopped", _AGAIN)
    said, log = _said(job), _tail(job.log, log_start)
    code = int(said.get("exit_code", code))
    if job.torchrun and not said and not _signal(code):
        code = _rank_exit_code(log, code)
    if number := _signal(code):
        return _killed(job, number)
    kind = BY_EXIT_CODE.get(code, NanochatError)
    if said:
        return kind(f"stage {job.stage}: {said.get('message', '')}", str(said.get("hint", "")))
    line = _telling_line(log)
    return _known(job, line) or kind(
        f"stage {job.stage} failed with exit code {code}: {line}", f"its log: {job.log}"
    )


def _telling_line(log: str) -> str:
    """The line that tells most of why it ended: the last error that is not of a lost connection."""
    lines = [line for raw in log.splitlines() if (line := _PREFIX.sub("", raw.strip(), count=1))]
    errors = [line for line in lines if _ERROR.match(line) or _MEMORY.search(line)]
    causes = [line for line in errors if not _PEERS.search(line)]
    return (causes or errors or lines or ["it printed nothing"])[-1][:300]


def _signal(code: int) -> int:
    """The signal that an exit code stands for: as Python says it (-9), or as a shell does (137); else 0."""
    number = -code if code < 0 else code - 128
    return number if number in {int(each) for each in signal.Signals} else 0


def _killed(job: Job, number: int) -> NanochatError:
    if number == signal.SIGKILL:
        return StageKilled(f"stage {job.stage} was killed", f"out of memory? {_AGAIN.capitalize()}")
    if number in (signal.SIGTERM, signal.SIGINT):
        return StageKilled(
            f"stage {job.stage} was told to stop by something outside this run",
            f"preempted? {_AGAIN.capitalize()}",
        )
    return StageKilled(f"stage {job.stage} died of signal {number}", f"its log: {job.log}")


def _known(job: Job, line: str) -> NanochatError | None:
    """What an error that Python, CUDA or torchrun printed means for this stage, if it is a known one."""
    if _MEMORY.search(line):
        return ResourceError(
            f"stage {job.stage} ran out of memory: {line}",
            f"a smaller micro_batch needs less; its log: {job.log}",
        )
    if told := _TOLD.search(line):
        return _killed(job, int(told[1]))
    if _LATE.search(line):
        return ResourceError(
            f"stage {job.stage}: of {job.cluster.nodes} nodes not all came within {job.cluster.patience_s} s",
            "start the same command on every node",
        )
    if _NO_RENDEZVOUS.search(line):
        return StageKilled(
            f"stage {job.stage}: the nodes cannot meet at {job.cluster.rendezvous}",
            f"is that port of node 0 free, and open to the others? Its log: {job.log}",
        )
    if job.cluster.nodes > 1 and _PEERS.search(line):
        return StageKilled(
            f"stage {job.stage} lost the ranks of another node", f"their log says why; {_AGAIN}"
        )
    return None


def _said(job: Job) -> dict[str, Any]:
    if not job.failure.exists():
        return {}
    said: dict[str, Any] = json.loads(job.failure.read_text(encoding="utf-8"))
    return said


def _rank_exit_code(log: str, code: int) -> int:
    """torchrun exits 1 whatever its ranks did; a killed rank can say nothing, so its agent's report must."""
    codes = _RANK_EXIT.findall(log)
    return int(codes[-1]) if codes else code


def _tail(path: Path, start: int, size: int = 1 << 16) -> str:
    with path.open("rb") as file:
        file.seek(max(start, path.stat().st_size - size))
        return file.read().decode("utf-8", errors="replace")
