"""What the web app is told about artifacts and runs. It opens no store: whoever starts it brings this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

MODEL_KINDS = ("base", "mid", "sft", "rl")
Number = int | float | str
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Row:
    """An artifact in a list. ``created`` in RFC 3339, ``bytes`` of all its files, ``metric`` as text."""

    ref: str
    aliases: tuple[str, ...]
    created: str
    bytes: int
    metric: str
    metrics: Mapping[str, Number] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What comes before the name."""
        return self.ref.partition("/")[0]


@dataclass(frozen=True)
class Link:
    """Another artifact, and in which role it was read or read this one."""

    role: str
    ref: str


@dataclass(frozen=True)
class ArtifactPage:
    """Everything that is known of one artifact. ``files``: (path, bytes, sha256)."""

    ref: str
    digest: str
    fingerprint: str
    stage: str
    created: str
    bytes: int
    aliases: Sequence[str]
    metrics: Mapping[str, Number]
    config: Mapping[str, Any]
    inputs: Sequence[Link]
    used_by: Sequence[Link]
    files: Sequence[tuple[str, int, str]]
    commit: str
    command: str
    made_with: Mapping[str, str] = field(default_factory=dict)
    run_url: str = ""


@dataclass(frozen=True)
class Edge:
    """``child`` was made from ``parent``, which it read in this role."""

    parent: str
    child: str
    role: str


@dataclass(frozen=True)
class Graph:
    """What an artifact was made from, or what was made from it. ``nodes``: ref -> what it is, root first."""

    root: str
    nodes: Mapping[str, str]
    edges: Sequence[Edge]


@dataclass(frozen=True)
class Stage:
    """One stage of a run: ``status`` is ran or cached, ``artifact`` may be empty."""

    stage: str
    status: str
    artifact: str
    seconds: float
    metric: str


@dataclass(frozen=True)
class Run:
    """A run of the pipeline on this machine. ``started`` in RFC 3339; ``settings``: what was asked for."""

    id: str
    name: str
    started: str
    seconds: float
    stages: Sequence[Stage]
    settings: Mapping[str, Any] = field(default_factory=dict)
    url: str = ""


@dataclass(frozen=True)
class Curve:
    """A measurement over the steps of a stage. ``unit`` may be empty."""

    name: str
    unit: str
    points: Points


@dataclass(frozen=True)
class Working:
    """A stage that runs on this machine now. ``progress`` in words; ``share``: done, 0 to 1, if known."""

    id: str
    stage: str
    started: str
    progress: str
    share: float | None
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Measured:
    """One number of an evaluation with its 95% interval; ``task`` is empty if it is about the whole model."""

    task: str
    name: str
    value: float
    low: float | None
    high: float | None
    n: int | None


@dataclass(frozen=True)
class Night:
    """One evaluation of a trend: when it became the newest, of which model."""

    time: str
    ref: str
    model: str
    measured: Sequence[Measured]


@dataclass(frozen=True)
class Trend:
    """The evaluations of one name, oldest first, and what is worse in the last one than chance explains."""

    name: str
    nights: Sequence[Night]
    worse: Sequence[str]


class Catalog(Protocol):
    """Artifacts and runs. Errors are ``artifacts.errors``: ResourceError if there is none of that name."""

    def artifacts(self, limit: int) -> list[Row]:
        """The newest artifacts, newest first."""

    def checkpoints(self, limit: int) -> list[Row]:
        """The newest checkpoints, newest first, each with all its metrics."""

    def artifact(self, ref: str) -> ArtifactPage:
        """One artifact; what was made from it is up to date."""

    def page(self, ref: str, file: str) -> bytes:
        """A file of a report, its digest verified; UsageError for other artifacts and files."""

    def set_alias(self, ref: str, alias: str) -> str:
        """Point an alias to what ``ref`` means now, and return that."""

    def lineage(self, ref: str, *, forward: bool) -> Graph:
        """All that an artifact was made from; ``forward``: all that was made from it."""

    def runs(self, limit: int) -> list[Run]:
        """The newest runs, newest first."""

    def run(self, id: str) -> Run:
        """One run."""

    def curves(self, ref: str) -> list[Curve]:
        """What a stage measured while it made this artifact; nothing if that was not kept."""

    def working(self) -> list[Working]:
        """The stages that run on this machine now."""

    def trends(self, nights: int) -> list[Trend]:
        """Every evaluation by name, with at most the last so many of each."""

    def tokenizers(self, limit: int) -> list[str]:
        """Refs of the newest tokenizers."""

    def tokenizer(self, ref: str) -> Path:
        """A folder with the tokenizer of an artifact, verified; UsageError if it has none."""
