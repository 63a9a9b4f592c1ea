"""A run as seen from the terminal, or as JSON lines."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from flows.cli.output import print_json
from flows.observe import Observer
from flows.records_tail import newest_values, progress_text
from flows.result import StageResult

_PLAIN_EVERY_S = 30.0


class JsonObserver(Observer):
    """One line a finished stage on stdout."""

    def finished(self, result: StageResult) -> None:
        if result.artifact:
            print_json(result.line())


class TerminalObserver(Observer):
    """What happens, on stderr: one moving line on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._moving = sys.stderr.isatty()
        self._started: dict[str, float] = {}
        self._shown: dict[str, float] = {}

    def started(self, stage: str, message: str) -> None:
        self._started[stage] = self._shown[stage] = time.monotonic()
        self._show(f"{stage:<14} {message}", keep=not self._moving)

    def tick(self, stage: str, records: Path) -> None:
        now = time.monotonic()
        if now - self._shown[stage] >= (1.0 if self._moving else _PLAIN_EVERY_S):
            self._shown[stage] = now
            text = progress_text(newest_values(records)) or "running"
            self._show(f"{stage:<14} {now - self._started[stage]:5.0f} s  {text}", keep=not self._moving)

    def finished(self, result: StageResult) -> None:
        what = f"{result.stage:<14} {result.status} in {result.seconds:.1f} s"
        self._show(f"{what}  {result.artifact}  {result.headline}".rstrip(), keep=True)

    def _show(self, text: str, *, keep: bool) -> None:
        if self._moving:
            sys.stderr.write(f"\r\x1b[2K{text[:110]}" + ("\n" if keep else ""))
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()
