"""A child that serves is waited for, asked kindly to end, and ended by force if it does not listen."""

from __future__ import annotations

import signal
import socket
import sys
import time

import pytest

from flows.processes.server_process import ServerProcess

SERVING = """
import signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else signal.SIG_DFL)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def started(program: str, *more: str, health: str = "/healthz") -> ServerProcess:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return ServerProcess([sys.executable, "-c", program, str(port), *more], "127.0.0.1", port, health, {})


@pytest.mark.parametrize(("more", "ended_by"), [((), signal.SIGTERM), (("deaf",), signal.SIGKILL)])
def test_it_is_ready_once_it_answers_and_ends_when_told(more: tuple[str, ...], ended_by: int) -> None:
    server = started(SERVING, *more)
    assert server.becomes_ready(60)
    server.stop(grace_s=0.5 if more else 30)
    assert server.wait() == -ended_by
    server.stop(0)  # of what has ended already: no error


def test_what_ends_or_answers_otherwise_is_not_ready() -> None:
    begun = time.monotonic()
    ended = started("raise SystemExit(7)")
    assert not ended.becomes_ready(60)
    assert time.monotonic() - begun < 60  # it did not wait for one that is gone
    assert ended.wait() == 7
    other = started(SERVING, health="/else")
    assert not other.becomes_ready(0.5)
    other.stop(30)


def test_who_waits_can_be_interrupted() -> None:
    server = started("import time; time.sleep(60)")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.becomes_ready(60, interrupt)
    server.stop(30)
