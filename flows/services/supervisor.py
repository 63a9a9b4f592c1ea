"""What ``nanochat up`` leaves behind: it keeps a server, its workers, and the web app running.

Services start one after the other, each once the one before answers; one that ends is started again. All
of them end with this process. What it does is told in ``state.json`` and in one log a service.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from artifacts.atomic import make_directories, write_file
from artifacts.errors import ResourceError
from artifacts.process import Process
from flows.processes.server_process import ServerProcess

START_S = 180  # PostgreSQL's tables take 22 s on an idle machine
_FLOWS_STOP_S = 40  # more than a stage's own grace for its checkpoint
_STOP_S = 30
_STEADY_S = 60  # a service that has run this long is well again
_MOST_RESTARTS = 5
_LOOK_AGAIN_S = 0.5


@dataclass(frozen=True)
class Service:
    """A program that stays: ``health`` is the (host, port, path) that answers 200 once it works.

    ``runs_flows``: what it started is ended before it, so that runs save their work and can say so.
    """

    name: str
    command: list[str]
    health: tuple[str, int, str]
    settings: dict[str, str] = field(default_factory=dict)
    runs_flows: bool = False


@dataclass(frozen=True)
class Step:
    """A program that ends, run once between two services."""

    name: str
    command: list[str]


class Supervisor:
    """Runs ``plan`` in its order, with state and logs in ``folder``, until it is told to stop."""

    def __init__(self, folder: Path, plan: Sequence[Service | Step], addresses: dict[str, str]) -> None:
        self._folder, self._plan, self._addresses = folder, plan, addresses
        self._running: dict[str, _Running] = {}
        self.stopping = False  # set by a signal's handler, where a threading.Event could wait for itself

    def run(self) -> int:
        """0 after ``stopping`` was set, 4 if something could not be kept running."""
        with held(self._folder):
            try:
                for item in self._plan:
                    self._tell("starting", doing=item.name)
                    self._begin(item)
                    if self.stopping:
                        return 0
                self._tell("ready")
                while not self.stopping:
                    self._restart_ended()
                    time.sleep(_LOOK_AGAIN_S)
            except ResourceError as error:
                self._tell("failed", error=error.message, hint=error.hint)
                return error.exit_code
            finally:
                self._stop_all()
                if self.stopping:
                    (self._folder / "state.json").unlink(missing_ok=True)
        return 0

    def _begin(self, item: Service | Step) -> None:
        if isinstance(item, Service):
            self._running[item.name] = running = _Running(item, self._folder)
            running.start()
            if not running.process.becomes_ready(START_S, self._check) and not self.stopping:
                raise ResourceError(f"{item.name} did not start", f"its log: {running.log}")
            return
        log = self._folder / f"{item.name}.log"
        with log.open("ab") as file:
            code = subprocess.run(item.command, stdout=file, stderr=file, stdin=subprocess.DEVNULL).returncode
        if code and not self.stopping:
            raise ResourceError(f"{item.name} failed with exit code {code}", f"its log: {log}")

    def _check(self) -> None:
        if self.stopping:
            raise ResourceError("told to stop", "")

    def _restart_ended(self) -> None:
        for running in self._running.values():
            if running.process.poll() is None:
                continue
            running.note_end()
            if len(running.ends) > _MOST_RESTARTS:
                hint = f"its log: {running.log}"
                raise ResourceError(
                    f"{running.service.name} ended {len(running.ends)} times in a minute", hint
                )
            running.start()
            self._tell("ready")

    def _stop_all(self) -> None:
        """In the reverse order; runs of a worker first."""
        for running in reversed(self._running.values()):
            if running.service.runs_flows:
                end_descendants(running.process.pid, _FLOWS_STOP_S)
            running.process.stop(_STOP_S)

    def _tell(self, phase: str, **more: str) -> None:
        services = {
            name: {"pid": running.process.pid, "restarts": running.restarts}
            for name, running in self._running.items()
        }
        process = Process.current()
        state = {
            "schema": 1, "phase": phase, "host": process.host, "pid": process.pid, "start": process.start,
            "addresses": self._addresses, "services": services, **more,
        }  # fmt: skip
        write_file(self._folder / "state.json", json.dumps(state, indent=1))


class _Running:
    """A service's process, and when the last ones of it ended."""

    process: ServerProcess

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.log = folder / f"{service.name}.log"
        self.ends: list[float] = []
        self.restarts = -1

    def start(self) -> None:
        with self.log.open("ab") as file:
            settings = {**self.service.settings, "NANOCHAT_TAKES_SIGINT": "1"}
            self.process = ServerProcess(
                self.service.command, *self.service.health, settings, stdout=file, stderr=file
            )
        self.restarts += 1

    def note_end(self) -> None:
        now = time.monotonic()
        self.ends = [*(end for end in self.ends if now - end < _STEADY_S), now]


def end_descendants(pid: int, grace_s: float) -> None:
    """SIGTERM to what ``pid`` started, which ends what it started; whatever is left after that, SIGKILL."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        children, all_of_them = parent.children(), parent.children(recursive=True)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        _, left = psutil.wait_procs(all_of_them, timeout=grace_s)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be the one supervisor of ``folder``. ResourceError if there is one."""
    make_directories(folder)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResourceError(f"{folder} has a supervisor already", "nanochat down ends it") from None
        yield


def read_state(folder: Path) -> dict[str, Any] | None:
    """What the living supervisor of ``folder`` said last, or one that failed; None if there is none."""
    path = folder / "state.json"
    if not path.exists():
        return None
    state: dict[str, Any] = json.loads(path.read_bytes())
    gone = Process(state["host"], state["pid"], state["start"]).is_dead()
    return None if gone and state["phase"] != "failed" else state
