"""Numbered artifacts, and an S3 server that fails as planned: a proxy before a good one."""

from __future__ import annotations

import http.client
import os
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from artifacts.manifest import Draft

Plan = Callable[[str, str], str | None]
ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>planned</Message></Error>"


class Proxy:
    """``plan(method, path)`` names the fault of a request, or None.

    "500 InternalError", "503 SlowDown", ... is the answer; "before" and "after" break the connection
    before or after the request was carried out; "body" in the middle of the answer; "stale" repeats the
    first answer to the same list request.
    """

    def __init__(self, target: str) -> None:
        self.plan: Plan = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self._target = urlsplit(target)
        self._lists: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                proxy.handle(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            self.requests.append((request.command, request.path))
            fault = self.plan(request.command, request.path)
        if fault == "before":
            return _hang_up(request)
        if fault and fault[0].isdigit():
            status, _, code = fault.partition(" ")
            answer = ERROR.format(code=code).encode()
            return _send(request, int(status), [("Content-Type", "application/xml")], answer)
        answer = self._forward(request, body)
        if "list-type" in request.path:
            first = self._lists.setdefault(request.path, answer)
            answer = first if fault == "stale" else answer
        if fault == "after":
            return _hang_up(request)
        _send(request, *answer, half=fault == "body")
        return None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _forward(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(str(self._target.hostname), self._target.port, timeout=30)
        headers = {key: value for key, value in request.headers.items() if key.lower() != "expect"}
        connection.request(request.command, request.path, body, headers)
        response = connection.getresponse()
        data = response.read()
        kept = [
            (key, value)
            for key, value in response.getheaders()
            if key.lower() not in ("transfer-encoding", "connection")
            and (request.command == "HEAD" or key.lower() != "content-length")
        ]
        connection.close()
        return response.status, kept, data


def _send(
    request: BaseHTTPRequestHandler,
    status: int,
    headers: list[tuple[str, str]],
    body: bytes,
    *,
    half: bool = False,
) -> None:
    request.send_response_only(status)
    for key, value in headers:
        request.send_header(key, value)
    if request.command != "HEAD":
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body[: len(body) // 2] if half else body)
    if half:
        _hang_up(request)


def _hang_up(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True


class Numbered:
    """Artifacts by number: the same number, the same draft; the same seed, the same files."""

    def __init__(self, draft: Callable[..., Draft]) -> None:
        self._draft = draft

    def draft(self, number: int) -> Draft:
        return self._draft(config={"number": number})

    def files(self, folder: Path, seed: int, size: int = 1000) -> Path:
        """The folder, with two files of that size and one that is the same for every seed."""
        folder.mkdir(parents=True, exist_ok=True)
        rng = random.Random(seed)
        for name in ("a.bin", "b.bin"):
            (folder / name).write_bytes(rng.randbytes(size))
        (folder / "same.json").write_text("{}")
        return folder


@pytest.fixture
def make(draft: Callable[..., Draft]) -> Numbered:
    return Numbered(draft)


@pytest.fixture
def proxy(moto: dict[str, str], s3_place: Callable[[dict[str, str]], str]) -> Iterator[Proxy]:
    """The proxy; this test's AWS clients go through it."""
    made = Proxy(moto["AWS_ENDPOINT_URL"])
    s3_place(moto)
    os.environ["AWS_ENDPOINT_URL"] = made.url
    yield made
    made.close()
