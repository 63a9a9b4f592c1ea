"""What a child prints, made fit for a log: whole lines, no control characters, no floods."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable

from artifacts.redact import redact_text

_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # ANSI colours and cursor movement
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # terminal titles and links
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_URGENT = re.compile(r"\b(?:WARN(?:ING)?|ERROR|CRITICAL|FATAL|Traceback)\b|^error:")
_MAX_LINE_CHARS = 4000
_MAX_LINES_A_RECORD = 200
_LAST_LINES = 100
_LONGEST_SECRET = 1000


class LineSplitter:
    """Bytes in any portions -> clean lines. A progress bar (``\\r``) leaves only its last state."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > 16 * _MAX_LINE_CHARS:
            states, _, self._rest = self._rest.rpartition(b"\r")
            whole.append(states)
            self._rest = self._rest[: 16 * _MAX_LINE_CHARS]  # nothing behind that is shown
        return [line for raw in whole if (line := _clean(raw))]

    def close(self) -> list[str]:
        """The last line, if the child did not end it."""
        return self.feed(b"\n") if self._rest else []


class Coalescer:
    """Passes lines on in records: at most one a second, warnings and errors at once.

    ``emit(text, urgent)`` gets the record; ``now`` is a clock in seconds. Of a flood the middle is left out:
    the last lines before a crash say why.
    """

    def __init__(
        self, emit: Callable[[str, bool], None], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit, self._now = emit, now
        self._first: list[str] = []
        self._last_lines: deque[str] = deque()
        self._dropped = 0
        self._urgent = False
        self._last = -1.0
        self._last_urgent = -1.0

    def add(self, line: str) -> None:
        """Take one line; it is passed on now or with a later record."""
        self._last_lines.append(line)
        if len(self._last_lines) > _LAST_LINES:
            oldest = self._last_lines.popleft()
            if len(self._first) < _MAX_LINES_A_RECORD - _LAST_LINES:
                self._first.append(oldest)
            else:
                self._dropped += 1
                if _URGENT.search(oldest):
                    self._first[-1] = oldest  # what is urgent is not what gets lost
        self._urgent = self._urgent or _URGENT.search(line) is not None
        self.tick()

    def tick(self) -> None:
        """Pass on what is due. A flood of warnings is held to ten records a second."""
        now = self._now()
        due = now - self._last >= 1.0
        if self._last_lines and (due or (self._urgent and now - self._last_urgent >= 0.1)):
            self._flush(now)

    def close(self) -> None:
        """Pass on all that is left."""
        if self._last_lines:
            self._flush(self._now())

    def _flush(self, now: float) -> None:
        left_out = [f"… {self._dropped} more lines, see the stage's log"] if self._dropped else []
        self._emit("\n".join([*self._first, *left_out, *self._last_lines]), self._urgent)
        self._last = now
        if self._urgent:
            self._last_urgent = now
        self._first, self._dropped, self._urgent = [], 0, False
        self._last_lines.clear()


def _clean(raw: bytes) -> str:
    text = raw.decode("utf-8", errors="replace").rstrip("\r").rsplit("\r", 1)[-1]
    text = _CONTROL.sub("", text).rstrip()
    if len(text) <= _MAX_LINE_CHARS:
        return text
    # Before the cut: half a secret would no longer be known as one.
    return redact_text(text[: _MAX_LINE_CHARS + _LONGEST_SECRET])[:_MAX_LINE_CHARS] + " …"
