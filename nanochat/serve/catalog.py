"""What the web app is told about artifacts. It never opens a store: whoever starts it brings this along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Row:
    """An artifact in a list. ``created`` in RFC 3339, ``bytes`` of all its files."""

    ref: str
    aliases: tuple[str, ...]
    created: str
    bytes: int
    metric: str


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
    metrics: Mapping[str, int | float | str]
    config: Mapping[str, Any]
    inputs: Sequence[Link]
    used_by: Sequence[Link]
    files: Sequence[tuple[str, int, str]]
    commit: str
    command: str
    made_with: Mapping[str, str] = field(default_factory=dict)
    run_url: str = ""


class Catalog(Protocol):
    """Artifacts, read-only. Errors are ``artifacts.errors``: ResourceError if there is none of that ref."""

    def artifacts(self, limit: int) -> list[Row]:
        """The newest artifacts, newest first."""

    def artifact(self, ref: str) -> ArtifactPage:
        """One artifact; what was made from it is up to date."""

    def page(self, ref: str, file: str) -> bytes:
        """A file of a report, its digest verified; UsageError for other artifacts and files."""
