"""The supervisor: in order, started again, given up, ended with all that they started."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from artifacts.errors import ResourceError
from flows.services.supervisor import Service, Step, Supervisor, end_descendants, held, read_state

SERVING = """
import subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
if "parent" in sys.argv:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    threading.Thread(target=child.wait, daemon=True).start()  # as a worker takes note of a run's end
    open(sys.argv[3], "w").write(str(child.pid))
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def service(name: str, *more: str, program: str = SERVING, runs_flows: bool = False) -> Service:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", program, str(port), *more]
    return Service(name, command, ("127.0.0.1", port, "/"), runs_flows=runs_flows)


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    """Runs a plan in a thread; ends it with the test."""
    made: list[tuple[Supervisor, threading.Thread]] = []

    def start(*plan: Service | Step) -> Supervisor:
        supervisor = Supervisor(tmp_path, plan, {"API": "http://127.0.0.1:1/api"})
        thread = threading.Thread(target=lambda: codes.append(supervisor.run()))
        made.append((supervisor, thread))
        thread.start()
        return supervisor

    codes: list[int] = []
    yield start
    for supervisor, thread in made:
        supervisor.stopping = True
        thread.join(60)
        assert not thread.is_alive()


def state(folder: Path) -> dict[str, Any]:
    return read_state(folder) or {}


def pids(folder: Path) -> dict[str, int]:
    return {name: item["pid"] for name, item in state(folder).get("services", {}).items()}


def test_what_comes_later_starts_when_what_comes_before_answers(start, tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    look = f"import sys, json; sys.exit('one' not in json.load(open({path!r}))['services'])"
    start(service("one"), Step("look", [sys.executable, "-c", look]), service("two"))
    until(lambda: state(tmp_path).get("phase") == "ready")
    assert list(pids(tmp_path)) == ["one", "two"]
    assert state(tmp_path)["addresses"] == {"API": "http://127.0.0.1:1/api"}


def test_one_that_ends_is_started_again(start, tmp_path: Path) -> None:
    start(service("one"), service("two"))
    until(lambda: state(tmp_path).get("phase") == "ready")
    before = pids(tmp_path)
    os.kill(before["one"], signal.SIGKILL)
    until(lambda: pids(tmp_path)["one"] != before["one"])
    assert pids(tmp_path)["two"] == before["two"]
    assert state(tmp_path)["services"]["one"]["restarts"] == 1


def test_one_that_ends_again_and_again_is_given_up(start, tmp_path: Path) -> None:
    supervisor = start(service("one"), service("two"))
    until(lambda: state(tmp_path).get("phase") == "ready")
    while state(tmp_path).get("phase") == "ready":
        last = pids(tmp_path)["one"]
        os.kill(last, signal.SIGKILL)
        until(lambda last=last: pids(tmp_path)["one"] != last or state(tmp_path)["phase"] != "ready")
    assert state(tmp_path)["phase"] == "failed"
    assert "one ended 6 times in a minute" in state(tmp_path)["error"]
    assert not supervisor.stopping


def test_told_to_stop_it_leaves_nothing(start, tmp_path: Path) -> None:
    child = tmp_path / "child"
    supervisor = start(service("one"), service("worker", "parent", str(child), runs_flows=True))
    until(lambda: state(tmp_path).get("phase") == "ready")
    processes = [psutil.Process(pid) for pid in (*pids(tmp_path).values(), int(child.read_text()))]
    supervisor.stopping = True
    until(lambda: not any(process.is_running() for process in processes))
    until(lambda: read_state(tmp_path) is None)


@pytest.mark.parametrize("what", ["service", "step"])
def test_what_does_not_start_is_said_with_its_log(tmp_path: Path, what: str) -> None:
    broken = [sys.executable, "-c", "print('no such pool'); raise SystemExit(7)"]
    plan = Step("broken", broken) if what == "step" else Service("broken", broken, ("127.0.0.1", 1, "/"))
    assert Supervisor(tmp_path, [service("one"), plan], {}).run() == ResourceError.exit_code
    said = json.loads((tmp_path / "state.json").read_text())
    assert said["phase"] == "failed"
    assert said["error"].startswith("broken ")
    assert "no such pool" in (tmp_path / "broken.log").read_text()
    assert not psutil.pid_exists(said["services"]["one"]["pid"])


def test_a_folder_has_one_supervisor(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(ResourceError, match="supervisor already"), held(tmp_path):
        pass


def test_the_state_of_a_dead_supervisor_is_none(tmp_path: Path) -> None:
    gone = {"phase": "ready", "host": "elsewhere", "pid": 1, "start": "0"}
    (tmp_path / "state.json").write_text(json.dumps(gone))
    assert read_state(tmp_path) == gone  # of another machine nothing is known
    from artifacts.process import Process

    mine = Process.current()
    (tmp_path / "state.json").write_text(json.dumps(gone | {"host": mine.host, "pid": mine.pid}))
    assert read_state(tmp_path) is None


def test_who_ignores_a_kind_word_is_killed() -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(1, flush=True); time.sleep(600)"
    )
    program = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {deaf!r}]).wait()"
    parent = psutil.Popen([sys.executable, "-c", program], stdout=-1)
    parent.stdout.readline()
    (child,) = parent.children()
    end_descendants(parent.pid, 0.5)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert parent.wait(30) is not None
    parent.stdout.close()
