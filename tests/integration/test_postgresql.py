"""``nanochat up`` on a real PostgreSQL: runs are kept there, and its password is kept from everybody."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.postgresql import PostgreSQL

pytestmark = pytest.mark.needs("postgresql")


@pytest.fixture
def database(postgresql: Path) -> Iterator[PostgreSQL]:
    with PostgreSQL(postgresql, durable=False) as running:
        yield running


def test_a_run_outlives_the_services_and_nobody_sees_the_password(
    database: PostgreSQL, nanochat: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    ports = ["--port", str(_free_port()), "--web-port", str(_free_port())]
    api = f"http://127.0.0.1:{ports[1]}/api"
    place: dict[str, Any] = {"home": home, "PREFECT_HOME": str(home / "prefect")}
    try:
        nanochat("up", *ports, **place, PREFECT_SERVER_DATABASE_CONNECTION_URL=database.url_with_password)
        _check_secrecy(database.password, home, api)
        run = _run(api, "pipeline/pipeline", {"preset": "tiny", "until": "shards"})
        assert run["state_name"] == "Completed", run["state"]["message"]
        nanochat("down", **place)

        password_file = tmp_path / "pgpass"
        password_file.write_text(f"127.0.0.1:*:*:*:{database.password}\n")
        password_file.chmod(0o600)
        nanochat("up", *ports, "--database", database.url, **place, PGPASSFILE=str(password_file))
        _check_secrecy(database.password, home, api)
        assert _asked(api, f"flow_runs/{run['id']}") == run
        tasks = _asked(api, "task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
        assert [(task["state_name"], task["name"].split()[0]) for task in tasks] == [("Completed", "shards")]
    finally:
        nanochat("down", **place)


def _check_secrecy(password: str, home: Path, api: str) -> None:
    """Neither files nor command lines nor the API show it, and of all processes only the server has it."""
    files = [path for path in home.rglob("*") if path.is_file()]
    assert home / "services/server.log" in files
    assert [path for path in files if password.encode() in path.read_bytes()] == []
    assert password not in json.dumps(_asked(api, "admin/settings"))
    state = json.loads((home / "services/state.json").read_text(encoding="utf-8"))
    for process in psutil.Process(state["pid"]).children(recursive=True):
        assert password not in " ".join(process.cmdline())
        if process.pid != state["services"]["server"]["pid"]:
            assert password not in json.dumps(process.environ()), process.cmdline()


def _run(api: str, deployment: str, params: dict[str, Any]) -> Any:
    """The flow run of a deployment at its end."""
    its_id = _asked(api, f"deployments/name/{deployment}")["id"]
    run = _asked(api, f"deployments/{its_id}/create_flow_run", parameters={"params": params})
    for _ in range(240):
        run = _asked(api, f"flow_runs/{run['id']}")
        if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return run
        time.sleep(0.5)
    pytest.fail(f"it did not end: {run['state']}")


def _asked(api: str, path: str, **query: Any) -> Any:
    """A POST with ``query``, or without one a GET."""
    body = json.dumps(query).encode() if query else None
    request = urllib.request.Request(f"{api}/{path}", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
