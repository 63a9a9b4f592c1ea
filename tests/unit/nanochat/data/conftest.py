"""A file server on the loopback whose answers go wrong in chosen ways, and shards to play with."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

Fault = Callable[["Answer"], None]


@dataclass
class Answer:
    """One answer about to be sent; a fault changes it."""

    status: int
    body: bytes
    headers: dict[str, str]
    cut_after: int | None = None
    stall_s: float = 0.0


@dataclass
class FaultServer:
    """Serves ``content`` under any path, with Range and ETag; ``faults`` apply to one request each."""

    content: bytes
    faults: list[Fault] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    sent_bytes: int = 0
    bodies: int = 0
    url: str = ""

    def answer(self, headers: dict[str, str]) -> Answer:
        """What this request gets; requests are answered one at a time."""
        self.requests.append(headers)
        etag = f'"{hashlib.md5(self.content).hexdigest()}"'
        common = {"ETag": etag, "Content-Length": str(len(self.content))}
        reply = Answer(200, self.content, common)
        if "Range" in headers and headers.get("If-Range") == etag:
            start = int(headers["Range"].removeprefix("bytes=").rstrip("-"))
            rest = self.content[start:]
            span = {"Content-Range": f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"}
            reply = Answer(206, rest, common | span | {"Content-Length": str(len(rest))})
        if self.faults:
            self.faults.pop(0)(reply)
        return reply


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    owner: FaultServer

    def do_GET(self) -> None:
        reply = self.owner.answer(dict(self.headers))
        body = reply.body if reply.cut_after is None else reply.body[: reply.cut_after]
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.owner.sent_bytes += len(body) if reply.status < 300 else 0
        self.owner.bodies += reply.status < 300
        time.sleep(reply.stall_s)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    owner = FaultServer(bytes(range(256)) * 1024)
    handler = type("Handler", (_Handler,), {"owner": owner})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    owner.url = f"http://127.0.0.1:{server.server_address[1]}/shard_00000.parquet"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield owner
    server.shutdown()
    server.server_close()


@pytest.fixture
def shards_folder(tmp_path: Path) -> Path:
    """A small data mirror without a manifest: three shards of several row groups, one for validation."""
    from nanochat.data.shards import write_shards

    folder = tmp_path / "mirror"
    texts = [f"Document {number} says {hashlib.md5(b'%d' % number).hexdigest()}." for number in range(5000)]
    train = write_shards(folder, texts[:4000], "train", 0, 100_000)
    write_shards(folder, texts[4000:], "val", len(train), 1_000_000)
    return folder
