"""The services of one machine: a Prefect server, a worker a pool, and the web app; started, found, ended."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from artifacts.atomic import make_directories
from artifacts.errors import ResourceError
from flows.dispatch.machine import gpus, offer
from flows.processes.server_process import PYTHON
from flows.services.supervisor import START_S, Service, Step, read_state
from flows.settings import PREFECT_DEFAULTS, PROJECT_ROOT, Settings

POOLS = ("cpu", "gpu")
_PREFECT = [*PYTHON, "-m", "prefect"]
_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_ASK_AGAIN_S = 0.2
_DOWN_S = 180


@dataclass(frozen=True)
class Places:
    """Where the services listen."""

    host: str
    port: int
    web_port: int

    @property
    def addresses(self) -> dict[str, str]:
        """What people open and programs call."""
        return {
            "Prefect": f"http://{self.host}:{self.port}",
            "API": f"http://{self.host}:{self.port}/api",
            "web app": f"http://{self.host}:{self.web_port}",
        }


def folder() -> Path:
    """Where state and logs of the services are."""
    return Settings().home / "services"


def up(places: Places, database: str | None, says: Callable[[str], None]) -> tuple[dict[str, str], bool]:
    """Start everything, or find it running: the addresses, and whether it was started.

    ``says`` hears what is being started. ResourceError if a port is taken or a service does not start.
    """
    state = read_state(folder())
    if state is not None and state["phase"] != "failed":
        return _ready(None, says), False
    for port in (places.port, places.web_port):
        _check_free(places.host, port)
    make_directories(folder())
    (folder() / "state.json").unlink(missing_ok=True)
    environment = _environment(places, database)
    arguments = [places.host, str(places.port), str(places.web_port)]
    with (folder() / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            [*PYTHON, "-m", "flows.services.up", *arguments], env=environment, cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    return _ready(process, says), True


def down() -> bool:
    """End everything that ``up`` started, runs included; False if nothing was running."""
    state = read_state(folder())
    if state is None or state["phase"] == "failed":
        return False
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(state["pid"])
        process.terminate()
        try:
            process.wait(_DOWN_S)
        except psutil.TimeoutExpired:
            hint = f"its log: {folder() / 'supervisor.log'}"
            raise ResourceError(f"process {process.pid} does not end", hint) from None
    return True


def plan(places: Places, database: str | None = None) -> list[Service | Step]:
    """What runs, in order. ``database`` may hold a password: only the server gets it."""
    local = "127.0.0.1" if places.host == "0.0.0.0" else places.host  # noqa: S104 -- compared, not bound
    uvicorn = [*PYTHON, "-m", "uvicorn", "--host", places.host, "--log-level", "warning", "--factory"]
    server = [*uvicorn, "--port", str(places.port), "flows.services.prefect_api:create"]
    settings = {"PREFECT__SERVER_FINAL": "1"} | ({_DATABASE: database} if database else {})
    web = [*PYTHON, "-m", "flows.services.web", places.host, str(places.web_port)]
    return [
        Service("server", server, (local, places.port, "/api/health"), settings),
        Step("register", [*PYTHON, "-m", "flows.services.register"]),
        *map(_worker, POOLS),
        Service("web", web, (local, places.web_port, "/healthz"), {"NANOCHAT_SERVE_DRAIN_S": "20"}),
    ]


def _worker(pool: str) -> Service:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    name = f"{pool}-{socket.gethostname()}"
    command = ["worker", "start", "--pool", pool, "--name", name, "--type", "process", "--with-healthcheck"]
    settings = {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(port)}
    health = ("127.0.0.1", port, "/health")
    return Service(f"worker-{pool}", [*_PREFECT, *command], health, settings, runs_flows=True)


def _environment(places: Places, database: str | None) -> dict[str, str]:
    """What every service gets; what the user has set stays."""
    address = places.addresses["API"]
    home = os.environ.get("PREFECT_HOME") or str(Settings().home / "prefect")
    defaults = PREFECT_DEFAULTS | {
        "PREFECT_HOME": home,
        # In memory, as is the default, a restarted server would forget who holds what and end long runs.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE":
            "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }  # fmt: skip
    if gpus():  # elsewhere the flow's own process has all that there is
        defaults["NANOCHAT_POOLS"] = json.dumps({"gpu": offer().model_dump()})
    wanted = {
        "PREFECT_API_URL": address, "PREFECT_UI_API_URL": address,
        "NANOCHAT_WEB_URL": places.addresses["web app"],
    }  # fmt: skip
    if database:
        wanted[_DATABASE] = database
    return defaults | dict(os.environ) | wanted


def _check_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise ResourceError(
            f"port {port} of {host} cannot be used: {error.strerror}", "choose another: --port, --web-port"
        ) from error


def _ready(process: subprocess.Popen[bytes] | None, says: Callable[[str], None]) -> dict[str, str]:
    """Wait until the supervisor says that everything runs."""
    told, deadline = "", time.monotonic() + 3 * START_S
    while time.monotonic() < deadline:
        state = read_state(folder())
        if state is None:
            if process is None or process.poll() is not None:
                raise ResourceError("the services ended", f"their log: {folder() / 'supervisor.log'}")
        elif state["phase"] == "failed":
            raise ResourceError(state["error"], state["hint"])
        elif state["phase"] == "ready":
            addresses: dict[str, str] = state["addresses"]
            return addresses
        elif state["doing"] != told:
            says(told := state["doing"])
        time.sleep(_ASK_AGAIN_S)
    raise ResourceError("the services did not start", f"their logs: {folder()}")


def main(argv: list[str]) -> int:
    """``python -m flows.services.up HOST PORT WEB_PORT``: run them until SIGTERM."""
    import signal

    from flows.services.supervisor import Supervisor

    database = os.environ.pop(_DATABASE, None)
    places = Places(argv[0], int(argv[1]), int(argv[2]))
    supervisor = Supervisor(folder(), plan(places, database), places.addresses)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: setattr(supervisor, "stopping", True))
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
