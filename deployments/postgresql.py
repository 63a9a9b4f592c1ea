"""A PostgreSQL of one's own on loopback, gone with its ``with`` block: for tests and benchmarks.

Its programs are those of Debian's package ``postgresql``. They refuse to run as root: another user does.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from artifacts.errors import ResourceError

_USER = "prefect"
_INSTEAD_OF_ROOT = ("postgres", "nobody")
_PATIENCE_S = 60


class PostgreSQL:
    """``with PostgreSQL(Path("/usr/lib/postgresql/15/bin")) as database:`` runs it.

    ``durable=False`` is quicker, and a power cut may cost all of it.
    """

    def __init__(self, programs: Path, *, durable: bool = True) -> None:
        self._programs, self._durable = programs, durable
        self.password = secrets.token_hex(16)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

    @property
    def url(self) -> str:
        """Where Prefect finds it, without the password."""
        return f"postgresql+asyncpg://{_USER}@127.0.0.1:{self._port}/postgres"

    @property
    def url_with_password(self) -> str:
        """Where Prefect finds it."""
        return self.url.replace("@", f":{self.password}@")

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="nanochat-postgresql-"))
        self._server: subprocess.Popen[bytes] | None = None
        try:
            self._create()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self._server:
            self._server.send_signal(signal.SIGINT)  # SIGTERM would wait for its clients
            self._server.wait(_PATIENCE_S)
        shutil.rmtree(self._folder)

    def _create(self) -> None:
        password = self._folder / "password"
        password.write_text(self.password)
        if not os.geteuid():
            for path in (self._folder, password):
                shutil.chown(path, _instead_of_root())
        options = ["--encoding", "UTF8", "--locale", "C", "--no-sync", "--auth", "scram-sha-256"]
        process = self._popen("initdb", "--username", _USER, "--pwfile", str(password), *options)
        if process.wait(_PATIENCE_S):
            raise ResourceError("PostgreSQL's initdb failed", self._said())

    def _start(self) -> None:
        settings = {"listen_addresses": "127.0.0.1", "port": self._port, "unix_socket_directories": ""}
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        self._server = self._popen("postgres", *(f"--{name}={value}" for name, value in settings.items()))
        deadline = time.monotonic() + _PATIENCE_S
        while not self._is_ready():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise ResourceError("PostgreSQL did not start", self._said())
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        """The last line of its own file says so."""
        with suppress(OSError):
            return (self._folder / "data/postmaster.pid").read_text().split()[-1] == "ready"
        return False

    def _popen(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A program as its owner, on the cluster; it ends with this process."""
        wrapper = ["setpriv", "--pdeathsig", "INT"]
        if not os.geteuid():
            user = pwd.getpwnam(_instead_of_root())
            wrapper += ["--reuid", user.pw_name, "--regid", str(user.pw_gid), "--clear-groups"]
        command = [*wrapper, str(self._programs / program), "-D", str(self._folder / "data")]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen([*command, *arguments], cwd=self._folder, stdout=log, stderr=log)

    def _said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-1000:]


def _instead_of_root() -> str:
    """A user that this machine has."""
    for name in _INSTEAD_OF_ROOT:
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise ResourceError("PostgreSQL does not run as root", "add a user postgres")
