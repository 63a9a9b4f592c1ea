"""Ends a stage that takes too long or hangs: it is asked first, and killed when its grace is over."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from artifacts.errors import NanochatError
from flows.processes.ending import StageKilled
from flows.processes.heartbeats import Heartbeats, description, show_stacks

if TYPE_CHECKING:
    from flows.launch import Job

TORCHRUN_GRACE_S = 15  # below Prefect's 30 s, after which it kills the whole group
GRACE_S = TORCHRUN_GRACE_S + 5


class Overseer:
    """Looks after the process of one job. ``verdict``: why it ended it, None if it did not."""

    def __init__(self, job: Job, *, now: Callable[[], float] = time.monotonic) -> None:
        self._job, self._now = job, now
        self._heartbeats = Heartbeats(job.attempt / "heartbeat", job.hang_s, now=now)
        self._started = now()
        self._asked = 0.0
        self.verdict: NanochatError | None = None

    def look(self, child: subprocess.Popen[bytes]) -> None:
        """Called every second while the stage runs."""
        if self.verdict is None:
            self.verdict = self._too_long() or self._hangs()
            if self.verdict:
                self._asked = self._now()
                child.terminate()
        elif self._now() - self._asked > GRACE_S:
            child.kill()

    def _too_long(self) -> NanochatError | None:
        limit_s = self._job.timeout_s
        if limit_s is None or self._now() - self._started <= limit_s:
            return None
        return NanochatError(f"stage {self._job.stage} took longer than {limit_s:.0f} s and was stopped")

    def _hangs(self) -> NanochatError | None:
        silent = self._heartbeats.silent()
        if not silent:
            return None
        silent_s = self._now() - max(beat.since for beat in silent)
        show_stacks(silent)
        return StageKilled(
            f"stage {self._job.stage} hangs: for {silent_s:.0f} s no sign of {description(silent)}",
            f"its log says where each of them is: {self._job.log}",
        )
