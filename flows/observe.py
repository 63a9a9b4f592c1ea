"""Who watches a run: the terminal, ``--json``, Prefect. The work itself never asks which."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path

from flows.result import StageResult


class Observer:
    """Told what happens; this one ignores it. Methods return at once and never raise."""

    def started(self, stage: str, message: str) -> None:
        """Work on a stage begins or waits; the message says why."""

    def log(self, stage: str, text: str, urgent: bool) -> None:
        """Lines that the stage's process printed, at most one call a second unless urgent."""

    def tick(self, stage: str, records: Path) -> None:
        """Called every second while the stage's process runs and appends to ``records``."""

    def ended(self, stage: str, records: Path) -> None:
        """The stage's process ended well; its records are complete."""

    def finished(self, result: StageResult) -> None:
        """A stage has its artifact."""


class Observers(Observer):
    """Passes everything on to several."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def started(self, stage: str, message: str) -> None:
        for observer in self._observers:
            observer.started(stage, message)

    def log(self, stage: str, text: str, urgent: bool) -> None:
        for observer in self._observers:
            observer.log(stage, text, urgent)

    def tick(self, stage: str, records: Path) -> None:
        for observer in self._observers:
            observer.tick(stage, records)

    def ended(self, stage: str, records: Path) -> None:
        for observer in self._observers:
            observer.ended(stage, records)

    def finished(self, result: StageResult) -> None:
        for observer in self._observers:
            observer.finished(result)


OBSERVER: ContextVar[Observer] = ContextVar("observer", default=Observer())  # noqa: B039 -- stateless


def watched_by(observer: Observer) -> None:
    """From here on ``observer`` is told as well."""
    OBSERVER.set(Observers(OBSERVER.get(), observer))
