"""What this machine has to give to stages, and which of its GPUs a stage gets.

Prefect's slots are counted, not numbered: locks on this machine number them.
"""

from __future__ import annotations

import fcntl
import glob
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import psutil

from artifacts.atomic import make_directories
from flows.dispatch.pools import Offer
from flows.launch import STOP
from flows.settings import Settings

GPU_LIMIT = "gpu"  # the global concurrency limit whose slots are GPUs


def slots() -> int:
    """How many GPUs this machine can give away; where there is none, each CPU stands for one."""
    return len(gpus()) or len(os.sched_getaffinity(0))


def offer() -> Offer:
    """What one stage can have here."""
    memory_gb = psutil.virtual_memory().total >> 30
    return Offer(gpus=slots(), cpus=len(os.sched_getaffinity(0)), memory_gb=max(memory_gb, 1))


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, by the names that CUDA takes."""
    if (said := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in said.split(",") if name]
    there = (path.removeprefix("/dev/nvidia") for path in glob.glob("/dev/nvidia[0-9]*"))
    return sorted(there, key=int)


@contextmanager
def devices(count: int) -> Iterator[None]:
    """Within, ``CUDA_VISIBLE_DEVICES`` names ``count`` GPUs that no other stage of this machine has.

    Waits until so many are free. On a machine that has fewer, GPUs are not what stages share.
    """
    there = gpus()
    if not count or len(there) < count:
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    with ExitStack() as held:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_take(there, count, held))
        try:
            yield
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def _take(there: list[str], count: int, held: ExitStack) -> list[str]:
    """Lock ``count`` of them all at once, or none, so that two stages never wait for each other."""
    folder = Settings().home / "devices"
    make_directories(folder)
    while True:
        with ExitStack() as attempt:
            free = (name for name in there if _locked(folder / f"{name}.lock", attempt))
            taken = list(islice(free, count))
            if len(taken) == count:
                held.enter_context(attempt.pop_all())
                return taken
        STOP.check()
        time.sleep(0.5)


def _locked(path: Path, held: ExitStack) -> bool:
    """The kernel frees it with the process, so there is no lock of a dead one."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    held.enter_context(file)
    return True
