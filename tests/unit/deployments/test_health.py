"""The health checks of the containers: yes only if the right thing answers."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from deployments.health import main


@pytest.fixture
def server() -> Iterator[str]:
    """Answers 200 to /well, and 404 to everything else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/well" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_an_address_is_well_if_it_answers_200(server: str) -> None:
    assert main([f"{server}/well"]) == 0
    assert main([f"{server}/other"]) == 1


def test_an_address_where_nobody_listens_is_not_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert main([f"http://127.0.0.1:{port}/"]) == 1


@pytest.mark.parametrize(
    ("running", "code"), [("{host}#7", 0), ("{host}2#7", 1), ("elsewhere#7", 1), ("", 1)]
)
def test_services_are_well_if_redis_heard_of_those_of_this_host(
    running: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FakeRedis:
        @classmethod
        def from_url(cls, url: str, **_: object) -> FakeRedis:
            assert url == "redis://somewhere/1"
            return cls()

        def __enter__(self) -> FakeRedis:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing to close."""

        def zrange(self, key: str, first: int, last: int) -> list[bytes]:
            assert (key, first, last) == ("prefect:workers", 0, -1)
            return [running.format(host=socket.gethostname()).encode()] if running else []

    monkeypatch.setattr("redis.Redis", FakeRedis)
    monkeypatch.setenv("PREFECT_SERVER_DOCKET_URL", "redis://somewhere/1")
    assert main(["services"]) == code


def test_services_without_redis_are_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("PREFECT_SERVER_DOCKET_URL", f"redis://127.0.0.1:{port}/1")
    assert main(["services"]) == 1
