"""Stop strings in a stream: text that may become one is held back until it is decided.

Of several stop strings the one that is complete first counts, the longest of those that end together; so
the result does not depend on how the text comes in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Takes a text piece by piece, gives out what lies before the first of ``stops``, none of them empty."""

    def __init__(self, stops: Sequence[str]) -> None:
        assert all(stops), stops
        self._stops = tuple(stops)
        self._held = ""
        self.hit = False

    def feed(self, text: str) -> str:
        """What can be given out after ``text`` has come; once ``hit``, nothing more."""
        if self.hit:
            return ""
        known = len(self._held)
        text = self._held + text
        if (start := self._first_stop(text, known)) is not None:
            self.hit, self._held = True, ""
            return text[:start]
        held = self._undecided(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def close(self) -> str:
        """What was held back, as the text has come to its end."""
        held, self._held = self._held, ""
        return held

    def _first_stop(self, text: str, known: int) -> int | None:
        """Where the stop string begins that ends first, after the first ``known`` characters."""
        found = []
        for stop in self._stops:
            start = text.find(stop, max(0, known - len(stop) + 1))
            if start >= 0:
                found.append((start + len(stop), start))
        return min(found)[1] if found else None

    def _undecided(self, text: str) -> int:
        """Length of the longest end of ``text`` that a stop string begins with."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
