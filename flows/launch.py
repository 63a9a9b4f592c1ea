"""Start a stage's process and see it through: torchrun or plain Python, never orphaned, never silent.

The process starts and is waited for in one thread (the kernel ties "die with my parent" to the thread),
stays in the flow's process group (a cancelled run takes it along), writes into a pipe of its own (an
inherited one keeps a dead flow "Running"), and holds a lock on its attempt folder, so that a next
attempt begins only when the last one is really gone.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from artifacts.errors import NanochatError, ResourceError
from artifacts.paths import home
from artifacts.redact import is_secret_name, redact_text
from flows.dispatch.cluster import Cluster
from flows.processes.child_log import Coalescer, LineSplitter
from flows.processes.ending import Interrupted as Interrupted
from flows.processes.ending import StageKilled as StageKilled
from flows.processes.ending import failure_of
from flows.processes.overseer import GRACE_S, TORCHRUN_GRACE_S, Overseer
from flows.settings import PROJECT_ROOT

_SAME_SIGNAL_S = 0.5
_GATHER_S = 0.05  # woken by every single line, this process and the child's writes cost half as much again
_FULL_READ_BYTES = 1 << 14
_PIPE_BYTES = 1 << 20  # seconds of a flood, for when this process gets no core


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
    """One process to run: a program, its job.json, and the folder of the attempt, named by its fingerprint.

    ``ranks``: processes on all nodes. ``overlap``: another stage may run beside it. ``hang_s``: after how
    long without a step a rank hangs.
    """

    stage: str
    module: str
    attempt: Path
    torchrun: bool = False
    ranks: int = 1
    overlap: bool = False
    timeout_s: float | None = None
    hang_s: float = 600.0
    cluster: Cluster = field(default_factory=Cluster.read)

    @property
    def log(self) -> Path:
        """Everything that all attempts printed, without secrets."""
        return self.attempt / "log.txt"

    @property
    def failure(self) -> Path:
        """What the program itself says about its failure."""
        return self.attempt / "failure.json"

    @property
    def local_ranks(self) -> int:
        """Processes on this machine. UsageError if there is no such number."""
        return self.cluster.share(self.ranks) if self.torchrun else 1


def command(job: Job) -> list[str]:
    """The argument list: exec wrapper, then torchrun if wanted, then the program as a module."""
    program = ["-m", job.module, "--job", str(job.attempt / "job.json")]
    wrapper = [sys.executable, "-m", "flows.processes.exec_wrapper"]
    if not job.torchrun:
        return [*wrapper, "SIGKILL", sys.executable, *program]
    launcher = ["-m", "torch.distributed.run", *job.cluster.options(job.attempt.name)]
    launcher += [f"--nproc-per-node={job.local_ranks}"]
    launcher += [f"--log-dir={job.attempt / 'ranks'}"]  # otherwise every start leaves a folder in /tmp
    if job.ranks > 1:
        launcher += ["--tee=3"]  # each rank into a file of its own, and with its name before each line to us
    # torchrun gets SIGTERM, so that it still ends its ranks; they end by themselves if it is killed.
    return [*wrapper, "SIGTERM", sys.executable, *launcher, *program]


def environment(job: Job, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The child's environment: the user's, without Prefect's, with a fair share of the cores as threads."""
    env = {key: value for key, value in base.items() if not key.startswith("PREFECT_")}
    env["OMP_NUM_THREADS"] = threads(job.local_ranks, job.overlap, base)
    # Threads that spin for long while they wait for each other starve a neighbour fivefold (docs/log.md).
    env.setdefault("GOMP_SPINCOUNT", "1000")
    # What one stage has compiled the next one finds.
    env.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home() / "compiled"))
    env.update(DO_NOT_TRACK="1", PYTHONUNBUFFERED="1", NANOCHAT_PARENT_PID=str(os.getpid()))
    if job.torchrun:
        # glibc gives big blocks back at once, and the page faults of getting them again cost a quarter. But
        # the few blocks of the size of a vocabulary's table leave holes that a heap seldom fills.
        env.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 << 20))
        env.setdefault("MALLOC_TRIM_THRESHOLD_", str(4 << 30))
        env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(TORCHRUN_GRACE_S)
        env["TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"] = "[rank${rank}]: "
        if job.cluster.nodes > 1:
            node = job.cluster.node_rank
            env["TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"] = f"[node{node} ${{local_rank}}]: "
            env["NANOCHAT_FIRST_RANK"] = str(node * job.local_ranks)
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
        log_start = raw.tell()
        overseer = Overseer(job)
        # Not preexec_fn: unsafe in a process with threads. The lock's descriptor lives in the child.
        child = subprocess.Popen(
            command(job), env=environment(job), cwd=PROJECT_ROOT, pass_fds=(lock,),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        # A thread of its own reads: whatever ``tick`` waits for, the child never waits for us.
        with ThreadPoolExecutor(1, "log") as reader, STOP.covering(child), _ended_on_error(child):
            pumped = reader.submit(copy_context().run, _pump, child, raw, Coalescer(log))
            while not wait([pumped], timeout=1.0).done:
                overseer.look(child)
                tick()
            pumped.result()
            code = child.wait()
    if code:
        raise overseer.verdict or _failure(job, code, log_start)


def _failure(job: Job, code: int, log_start: int) -> NanochatError:
    error = failure_of(job, code, asked=bool(STOP.pulls), log_start=log_start)
    if isinstance(error, StageKilled) and not STOP.pulls:
        time.sleep(_SAME_SIGNAL_S)  # one to the whole group ends the run as well, but maybe a moment later
        error = failure_of(job, code, asked=bool(STOP.pulls), log_start=log_start)
    return error


def _pump(child: subprocess.Popen[bytes], raw: IO[str], lines: Coalescer) -> None:
    """Carry the child's output until it closes it, or for a second after it ended."""
    assert child.stdout is not None
    splitter = LineSplitter()
    secrets = {name: value for name, value in os.environ.items() if is_secret_name(name)}  # once, not a line
    with suppress(OSError):  # a limit of this machine: then it stays as small as it is
        fcntl.fcntl(child.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def carry(whole: list[str]) -> None:
        for line in whole:
            line = redact_text(line, secrets)
            raw.write(line + "\n")
            lines.add(line)
        raw.flush()

    with child.stdout, selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            ready = selector.select(timeout=1.0)
            if ready:
                data = os.read(child.stdout.fileno(), 1 << 16)
                if not data:
                    break
                carry(splitter.feed(data))
                if len(data) < _FULL_READ_BYTES:
                    time.sleep(_GATHER_S)
            elif child.poll() is not None:
                break
            lines.tick()
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
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise
