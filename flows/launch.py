"""Start a stage's process and see it through: torchrun or plain Python, never orphaned, never silent.

The process starts and is waited for in one thread (the kernel ties "die with my parent" to the thread),
stays in the flow's process group (a cancelled run takes it along), writes into a pipe of its own (an
inherited one keeps a dead flow "Running"), and holds a lock on its attempt folder, so that a next
attempt begins only when the last one is really gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from artifacts.errors import BY_EXIT_CODE, NanochatError, ResourceError
from artifacts.redact import redact_text
from flows.child_log import Coalescer, LineSplitter
from flows.settings import PROJECT_ROOT

_STOPPED = {143, 130, -signal.SIGTERM, -signal.SIGINT}
_TORCHRUN_GRACE_S = 15  # below Prefect's 30 s, after which it kills the whole group
_RANK_EXIT = re.compile(r"exitcode\s*:\s*(-?\d+)")


class Interrupted(NanochatError):
    """The run was asked to stop, and did."""

    code = "interrupted"
    exit_code = 130


class StageKilled(NanochatError):
    """Something outside ended the stage's process; trying again may help."""

    code = "killed"


class Stop:
    """The switch that ends a run: pulled once, children save and exit; pulled twice, they are killed."""

    def __init__(self) -> None:
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.pulls = 0

    def pull(self) -> None:
        """Ask every child to stop; the second time, end it at once. No child starts after this."""
        self.pulls += 1
        for child in tuple(self._children):
            child.send_signal(signal.SIGTERM if self.pulls == 1 else signal.SIGKILL)

    def check(self) -> None:
        """Raises Interrupted once the switch was pulled."""
        if self.pulls:
            raise Interrupted("the run was stopped", "the same command resumes it")

    @contextmanager
    def covering(self, child: subprocess.Popen[bytes]) -> Iterator[None]:
        """Within, the switch reaches ``child``."""
        with self._lock:
            self._children.add(child)
        if self.pulls:
            child.send_signal(signal.SIGTERM)
        try:
            yield
        finally:
            with self._lock:
                self._children.discard(child)


STOP = Stop()


@dataclass(frozen=True)
class Job:
    """One process to run: a program, its job.json, and the folder of the attempt.

    ``overlap``: another stage may run beside it.
    """

    stage: str
    module: str
    attempt: Path
    torchrun: bool = False
    ranks: int = 1
    overlap: bool = False
    timeout_s: float | None = None

    @property
    def log(self) -> Path:
        """Everything that all attempts printed, without secrets."""
        return self.attempt / "log.txt"

    @property
    def failure(self) -> Path:
        """What the program itself says about its failure."""
        return self.attempt / "failure.json"


def command(job: Job) -> list[str]:
    """The argument list: exec wrapper, then torchrun if wanted, then the program as a module."""
    program = ["-m", job.module, "--job", str(job.attempt / "job.json")]
    wrapper = [sys.executable, "-m", "flows.exec_wrapper"]
    if not job.torchrun:
        return [*wrapper, "SIGKILL", sys.executable, *program]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job.ranks}"]
    launcher += [f"--log-dir={job.attempt / 'ranks'}"]  # otherwise every start leaves a folder in /tmp
    if job.ranks > 1:
        launcher += ["--redirects=3", "--tee=0:3"]
    # torchrun gets SIGTERM, so that it still ends its ranks; they end by themselves if it is killed.
    return [*wrapper, "SIGTERM", sys.executable, *launcher, *program]


def environment(job: Job, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The child's environment: the user's, without Prefect's, with a fair share of the cores as threads."""
    env = {key: value for key, value in base.items() if not key.startswith("PREFECT_")}
    env["OMP_NUM_THREADS"] = threads(job.ranks if job.torchrun else 1, job.overlap, base)
    env.update(DO_NOT_TRACK="1", PYTHONUNBUFFERED="1", NANOCHAT_PARENT_PID=str(os.getpid()))
    if job.torchrun:
        # glibc gives big blocks back at once, and the page faults of getting them again cost a quarter.
        env.setdefault("MALLOC_MMAP_THRESHOLD_", str(4 << 30))
        env.setdefault("MALLOC_TRIM_THRESHOLD_", str(4 << 30))
        env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(_TORCHRUN_GRACE_S)
    return env


def threads(ranks: int, overlap: bool, environ: Mapping[str, str] = os.environ) -> str:
    """Threads of each rank of a stage: what the user says, else a fair share of the cores.

    With more threads than cores, OpenMP's spin while they wait for each other (docs/log.md).
    """
    return environ.get("OMP_NUM_THREADS") or str(
        max(1, len(os.sched_getaffinity(0)) // (ranks * (2 if overlap else 1)))
    )


def run(job: Job, *, log: Callable[[str, bool], None], tick: Callable[[], None]) -> None:
    """Run the process to its end. ``log`` gets what it prints, ``tick`` is called every second.

    Raises Interrupted, StageKilled, or the error that the program ended with. What ``tick`` raises
    ends the process first.
    """
    STOP.check()
    job.failure.unlink(missing_ok=True)
    with _attempt_lock(job.attempt) as lock, job.log.open("a", encoding="utf-8") as raw:
        started = time.monotonic()
        # Not preexec_fn: unsafe in a process with threads. The lock's descriptor lives in the child.
        child = subprocess.Popen(
            command(job), env=environment(job), cwd=PROJECT_ROOT, pass_fds=(lock,),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        timed_out = False

        def every_second() -> None:
            nonlocal timed_out
            if job.timeout_s and time.monotonic() - started > job.timeout_s and not timed_out:
                timed_out = True
                child.terminate()
            tick()

        with STOP.covering(child), _ended_on_error(child):
            _pump(child, raw, Coalescer(log), every_second)
            code = child.wait()
    if timed_out:
        raise NanochatError(f"stage {job.stage} took longer than {job.timeout_s:.0f} s and was stopped")
    if code:
        raise failure_of(job, code)


def failure_of(job: Job, code: int) -> NanochatError:
    """The error that an exit code means, in the program's own words where it left any."""
    said = _said(job)
    code = int(said.get("exit_code", code))
    if job.torchrun and not said and code not in _STOPPED:
        code = _rank_exit_code(job, code)
    if code in _STOPPED or STOP.pulls:
        return Interrupted(f"stage {job.stage} was stopped", "the same command resumes it")
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return StageKilled(f"stage {job.stage} was killed", "out of memory? The same command resumes it")
    if code < 0:
        return StageKilled(f"stage {job.stage} died of signal {-code}", f"its log: {job.log}")
    kind = BY_EXIT_CODE.get(code, NanochatError)
    if said:
        return kind(f"stage {job.stage}: {said.get('message', '')}", str(said.get("hint", "")))
    return kind(
        f"stage {job.stage} failed with exit code {code}: {_last_line(job.log)}", f"its log: {job.log}"
    )


def _pump(child: subprocess.Popen[bytes], raw: IO[str], lines: Coalescer, tick: Callable[[], None]) -> None:
    """Carry the child's output until it closes it, or for a second after it ended."""
    assert child.stdout is not None
    splitter = LineSplitter()

    def carry(whole: list[str]) -> None:
        for line in map(redact_text, whole):
            raw.write(line + "\n")
            lines.add(line)
        raw.flush()

    last_tick = 0.0
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            ready = selector.select(timeout=1.0)
            if ready:
                data = os.read(child.stdout.fileno(), 1 << 16)
                if not data:
                    break
                carry(splitter.feed(data))
            elif child.poll() is not None:
                break
            if time.monotonic() - last_tick >= 1.0:
                last_tick = time.monotonic()
                lines.tick()
                tick()
    carry(splitter.close())
    lines.close()


@contextmanager
def _attempt_lock(attempt: Path, patience_s: float = 60.0) -> Iterator[int]:
    """Hold the folder's lock; waits for the process of a killed flow to end."""
    deadline = time.monotonic() + patience_s
    with (attempt / "lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ResourceError(
                        f"another process still works in {attempt}", "end it, or wait until it has finished"
                    ) from None
                STOP.check()
                time.sleep(0.2)
        yield file.fileno()


@contextmanager
def _ended_on_error(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """If anything is raised within, no child is left behind."""
    try:
        yield
    except BaseException:
        child.terminate()
        try:
            child.wait(_TORCHRUN_GRACE_S + 5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise
    finally:
        if child.stdout:
            child.stdout.close()


def _said(job: Job) -> dict[str, Any]:
    if not job.failure.exists():
        return {}
    said: dict[str, Any] = json.loads(job.failure.read_text(encoding="utf-8"))
    return said


def _rank_exit_code(job: Job, code: int) -> int:
    """torchrun exits 1 whatever its ranks did; a killed rank can say nothing, so its agent's report must."""
    codes = _RANK_EXIT.findall(_tail(job.log))
    return int(codes[-1]) if codes else code


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in _tail(log).splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(?:\[\w+\]:)?[\w.]*(?:Error|Exception)\b", line)]
    return (errors or lines or ["it printed nothing"])[-1][:300]


def _tail(path: Path, size: int = 1 << 14) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read().decode("utf-8", errors="replace")
