"""How people name an artifact: ``kind/name[@vN|@alias|@sha256:HEX]``; nothing after the name is @latest."""

from __future__ import annotations

import re
from dataclasses import dataclass

from artifacts.errors import UsageError
from artifacts.paths import segment

LATEST = "latest"
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")
_DIGEST = re.compile(r"sha256:([0-9a-f]{8,64})")
_GRAMMAR = "write kind/name, kind/name@v3, kind/name@prod or kind/name@sha256:HEX"


@dataclass(frozen=True, order=True)
class ArtifactRef:
    """A parsed ref. Exactly one of ``version``, ``alias`` and ``digest`` (8 to 64 hex digits) is set."""

    kind: str
    name: str
    version: int | None = None
    alias: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> ArtifactRef:
        """Parse ``text``; raises UsageError that says what is wrong with it."""
        path, at, selector = text.partition("@")
        kind, slash, name = path.partition("/")
        if not slash or (at and not selector):
            raise UsageError(f"ref {text[:120]!r} is incomplete", _GRAMMAR)
        segment(kind, "artifact kind")
        segment(name, "artifact name")
        if version := _VERSION.fullmatch(selector):
            return cls(kind, name, version=int(version[1]))
        if digest := _DIGEST.fullmatch(selector):
            return cls(kind, name, digest=digest[1])
        return cls(kind, name, alias=check_alias(selector) if at else LATEST)

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.kind}/{self.name}@v{self.version}"
        if self.digest is not None:
            return f"{self.kind}/{self.name}@sha256:{self.digest}"
        return f"{self.kind}/{self.name}@{self.alias or LATEST}"


def check_alias(text: str) -> str:
    """``text`` itself if it is a legal alias; one that looks like a version is not."""
    if re.fullmatch(r"v[0-9]+", text):
        raise UsageError(f"{text!r} is not an alias or an existing version number", _GRAMMAR)
    return segment(text, "alias")
