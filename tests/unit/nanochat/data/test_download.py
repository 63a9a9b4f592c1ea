"""T23: whatever the network does, the file is right or absent; T24: processes share one download."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest

from artifacts.errors import DataError, NanochatError, ResourceError
from nanochat.data.download import Expected, Patience, _guard, _retry_after, download

QUICK = Patience(attempts=5, wait_s=0.01, max_wait_s=0.05, silence_s=0.3)


def fetch(server: Any, target: Path, **known: Any) -> Path:
    return download(server.url, target, expected=Expected(**known), patience=QUICK)


def cut(size: int) -> Any:
    def fault(reply: Any) -> None:
        reply.cut_after = size

    return fault


def status(code: int, **headers: str) -> Any:
    def fault(reply: Any) -> None:
        reply.status, reply.body = code, b"no"
        reply.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    return fault


def stall(reply: Any) -> None:
    reply.cut_after, reply.stall_s = 1000, 0.6


def other_content(reply: Any) -> None:
    reply.body = bytes(len(reply.body))


def shorter(reply: Any) -> None:
    reply.body = reply.body[:-10]
    reply.headers["Content-Length"] = str(len(reply.body))


def longer(reply: Any) -> None:
    reply.body += b"more"
    reply.headers["Content-Length"] = str(len(reply.body))


@pytest.mark.criterion("T23")
@pytest.mark.parametrize("seed", range(20))
def test_cut_anywhere_resumes(fault_server: Any, tmp_path: Path, seed: int) -> None:
    size = len(fault_server.content)
    fault_server.faults = [cut(random.Random(seed).randrange(1, size))]
    assert fetch(fault_server, tmp_path / "x").read_bytes() == fault_server.content
    assert len(fault_server.requests) == 2
    assert fault_server.sent_bytes <= 1.1 * size
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["x"]


@pytest.mark.criterion("T23")
@pytest.mark.parametrize(
    "faults",
    [
        [status(500), status(500)],
        [status(429, Retry_After="0")],
        [status(503, Retry_After=formatdate(0, usegmt=True))],
        [stall],
        [cut(100), cut(5000), stall, status(502)],
        [other_content],
        [shorter],
        [longer],
    ],
)
def test_what_passes_is_retried(fault_server: Any, tmp_path: Path, faults: list[Any]) -> None:
    fault_server.faults = list(faults)
    digest = hashlib.sha256(fault_server.content).hexdigest()
    target = fetch(fault_server, tmp_path / "x", sha256=digest, size=len(fault_server.content))
    assert target.read_bytes() == fault_server.content
    assert len(fault_server.requests) <= 5


@pytest.mark.criterion("T23")
@pytest.mark.parametrize(
    ("known", "fault", "kind"),
    [
        ({"sha256": "0" * 64}, None, DataError),
        ({"size": 10}, None, DataError),
        ({"size": 1 << 30}, None, NanochatError),
        ({}, status(500), ResourceError),
        ({}, stall, ResourceError),
    ],
)
def test_what_stays_wrong_leaves_no_file(
    fault_server: Any, tmp_path: Path, known: dict[str, Any], fault: Any, kind: type[NanochatError]
) -> None:
    fault_server.faults = [fault] * 9 if fault else []
    with pytest.raises(kind):
        fetch(fault_server, tmp_path / "x", **known)
    assert not (tmp_path / "x").exists()
    assert len(fault_server.requests) <= 5


def test_a_refusal_is_not_retried(fault_server: Any, tmp_path: Path) -> None:
    fault_server.faults = [status(404)]
    with pytest.raises(ResourceError, match="HTTP 404"):
        fetch(fault_server, tmp_path / "x")
    assert len(fault_server.requests) == 1


def test_a_file_that_changed_meanwhile_is_fetched_anew(fault_server: Any, tmp_path: Path) -> None:
    fault_server.faults = [cut(100_000), *[status(500)] * 4]
    with pytest.raises(ResourceError):
        fetch(fault_server, tmp_path / "x")
    fault_server.content = bytes(reversed(fault_server.content))
    assert fetch(fault_server, tmp_path / "x").read_bytes() == fault_server.content


def test_a_killed_download_goes_on_where_it_stopped(fault_server: Any, tmp_path: Path) -> None:
    fault_server.faults = [cut(200_000), *[status(500)] * 4]
    with pytest.raises(ResourceError):
        fetch(fault_server, tmp_path / "x")
    fault_server.sent_bytes = 0
    assert fetch(fault_server, tmp_path / "x").read_bytes() == fault_server.content
    assert fault_server.sent_bytes == len(fault_server.content) - 200_000


def test_the_digest_that_the_hub_announces_is_checked(fault_server: Any, tmp_path: Path) -> None:
    def announce(reply: Any) -> None:
        reply.headers["X-Linked-Etag"] = f'"{"a" * 64}"'

    fault_server.faults = [announce] * 5
    with pytest.raises(DataError, match="sha256"):
        fetch(fault_server, tmp_path / "x")


def test_secrets_of_a_url_are_not_shown(fault_server: Any, tmp_path: Path) -> None:
    fault_server.faults = [status(404)]
    secret = fault_server.url.replace("//", "//user:hunter22@") + "?token=hunter33"
    with pytest.raises(ResourceError) as caught:
        download(secret, tmp_path / "x", patience=QUICK)
    assert "hunter" not in str(caught.value)
    assert "shard_00000.parquet" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("https://cdn.hf.co/x", True),
        ("https://hub.example/y", True),
        ("http://cdn.hf.co/x", False),
        ("https://evilhf.co/x", False),
        ("https://127.0.0.1/x", False),
    ],
)
def test_redirects_stay_on_known_hosts_and_https(target: str, allowed: bool) -> None:
    check = _guard(httpx.URL("https://hub.example/x"), ("hf.co",))
    if allowed:
        check(httpx.Request("GET", target))
    else:
        with pytest.raises(ResourceError, match="refused"):
            check(httpx.Request("GET", target))


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), (formatdate(0, usegmt=True), 0.0), ("soon", None), ("", None)]
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert _retry_after(value) == seconds


@pytest.mark.criterion("T24")
def test_four_processes_fetch_once(fault_server: Any, tmp_path: Path) -> None:
    fault_server.faults = [lambda reply: setattr(reply, "stall_s", 0.2)]
    program = (
        "import sys, hashlib, pathlib\n"
        "from nanochat.data.download import download\n"
        "file = download(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
        "print(hashlib.sha256(file.read_bytes()).hexdigest())\n"
    )
    command = [sys.executable, "-c", program, fault_server.url, str(tmp_path / "x")]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    digests = [reader.communicate(timeout=120)[0].strip() for reader in readers]
    assert digests == [hashlib.sha256(fault_server.content).hexdigest()] * 4
    assert fault_server.bodies == 1
