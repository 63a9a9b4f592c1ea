"""Watches the heartbeat files of a stage's ranks (``nanochat/heartbeat.py``), and says which of them hang."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SLOW = 10  # evaluations, checkpoints and the first step: that many times the patience of a step
_PRINTING_S = 1.0  # a signal to end that came at once would win


@dataclass(frozen=True)
class Beat:
    """What a rank said last, and since when it has said nothing new."""

    rank: int
    pid: int
    step: int
    slow: bool
    sign: tuple[int, str]
    since: float


class Heartbeats:
    """The ranks that beat into ``folder``; what an earlier attempt left there is forgotten.

    A rank without a file is not watched: not every stage has steps. Only that a file changes counts, on
    this process's own clock, so that no two clocks are compared. What took long before, such as a step on
    a slow machine, may take twice as long again.
    """

    def __init__(self, folder: Path, limit_s: float, *, now: Callable[[], float] = time.monotonic) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder, self._limit_s, self._now = folder, limit_s, now
        self._beats: dict[int, Beat] = {}
        self._longest_s = 0.0

    def silent(self) -> list[Beat]:
        """The ranks that gave no sign for too long, the one that is furthest behind first."""
        now = self._now()
        for path in self._folder.glob("[0-9]*"):
            with suppress(OSError, ValueError):  # being written just now: next time
                self._read(path, now)
        late = [beat for beat in self._beats.values() if now - beat.since > self._patience_s(beat)]
        return sorted(late, key=lambda beat: (beat.step, beat.rank))

    def _read(self, path: Path, now: float) -> None:
        rank, sign = int(path.name), (path.stat().st_mtime_ns, path.read_text(encoding="ascii"))
        pid, step, *rest = sign[1].split()
        last = self._beats.get(rank)
        if last is None or last.sign != sign:
            self._longest_s = max(self._longest_s, now - last.since if last else 0.0)
            self._beats[rank] = Beat(rank, int(pid), int(step), rest == ["slow"], sign, now)

    def _patience_s(self, beat: Beat) -> float:
        return max(self._limit_s * (SLOW if beat.slow else 1), 2 * self._longest_s)


def show_stacks(beats: Iterable[Beat]) -> None:
    """Have each rank print where it is, and give it a moment; torchrun's do so on SIGUSR1."""
    for beat in beats:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(beat.pid, signal.SIGUSR1)
    time.sleep(_PRINTING_S)


def description(beats: Iterable[Beat]) -> str:
    """``rank 3 at step 41; ranks 0, 1, 2 at step 42``."""
    by_step: defaultdict[int, list[str]] = defaultdict(list)
    for beat in beats:
        by_step[beat.step].append(str(beat.rank))
    return "; ".join(
        f"rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)} at step {step}"
        for step, ranks in by_step.items()
    )
