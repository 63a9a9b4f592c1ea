"""A small file that a rank rewrites while it gets on: whoever started it sees which one hangs, and where.

``PID STEP``, and ``slow`` where what follows may take much longer than a step. What counts is that the
file changes, never the clock in it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

EVERY_S = 1.0


class Heartbeat:
    """Beats of one rank into ``path``; of quick ones at most one a second is written."""

    def __init__(self, path: Path, *, now: Callable[[], float] = time.monotonic) -> None:
        self._path, self._now = path, now
        self._last, self._slow = -EVERY_S, False

    def beat(self, step: int, *, slow: bool = False) -> None:
        """This rank has come to ``step``. A file that cannot be written ends nothing."""
        now = self._now()
        if now - self._last < EVERY_S and slow == self._slow:
            return
        self._last, self._slow = now, slow
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(f"{os.getpid()} {step}{' slow' if slow else ''}\n", encoding="ascii")
