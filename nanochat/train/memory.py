"""How much memory this process may still take: of the machine, and of the container that it runs in."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")  # what a container sees here is its own (cgroup v2)


def free_memory_bytes(cgroup: Path = CGROUP) -> int:
    """Bytes that can be taken without swapping, or being killed for them; cached files count as free."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(stat["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
        return free
