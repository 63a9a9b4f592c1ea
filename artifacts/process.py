"""Who holds a lease: one process, told apart from every other, also after its number is used again."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Process:
    """A process: ``host`` stands for one boot and process namespace, ``start`` for when it began."""

    host: str
    pid: int
    start: str

    @classmethod
    def current(cls) -> Process:
        """This process."""
        return cls(_host(), os.getpid(), _start(os.getpid()) or "")

    def is_dead(self) -> bool:
        """True if it surely is: it ran here and is gone. Of another host nothing is known."""
        return self.host == _host() and _start(self.pid) != self.start


def _host() -> str:
    """An opaque id of this boot and process namespace: equal only where process numbers mean the same."""
    try:
        identity = f"{_BOOT_ID.read_text().strip()} {os.readlink(_PID_NAMESPACE)}"
    except OSError:
        import psutil

        identity = f"{uuid.getnode()} {int(psutil.boot_time())}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _start(pid: int) -> str | None:
    """When the process started, in its system's ticks; None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return _start_elsewhere(pid)
    return None if fields[0] in "ZX" else fields[19]


def _start_elsewhere(pid: int) -> str | None:
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
