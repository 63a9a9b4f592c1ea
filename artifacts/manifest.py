"""What is known about one artifact: its files, where it came from, and the recipe that made it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from artifacts.errors import DataError, UsageError
from artifacts.fingerprint import canonical_json, sha256_json
from artifacts.paths import is_sha256, relative_path, segment
from artifacts.redact import redact_json

ADOPTED = "adopt"  # the stage of an artifact that no stage made; its fingerprint can answer for none


def _sha256(text: str) -> str:
    if not is_sha256(text):
        raise ValueError("not 64 lower-case hex digits")
    return text


Sha256 = Annotated[str, AfterValidator(_sha256)]
Segment = Annotated[str, AfterValidator(segment)]


class _Model(BaseModel):
    # Built when first used: a list of names, for one, needs none of them.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )


class FileEntry(_Model):
    """One file of an artifact; ``path`` is relative to its payload, or to its ``run/`` folder."""

    path: Annotated[str, AfterValidator(relative_path)]
    size: int = Field(ge=0)
    sha256: Sha256


class Parent(_Model):
    """An artifact that was read to make this one."""

    role: str
    ref: str
    digest: Sha256
    manifest: Sha256


class Hardware(_Model):
    """What it ran on. Host names are not recorded."""

    cpu: str = ""
    cores: int = 0
    gpus: tuple[str, ...] = ()


class Provenance(_Model):
    """How it was made: none of this is identity."""

    commit: str | None = None
    dirty: str | None = Field(
        default=None, description="sha256 of the uncommitted changes, None when there are none"
    )
    command: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    hardware: Hardware = Field(default_factory=Hardware)
    settings: dict[str, Any] = Field(
        default_factory=dict, description="resolved dtype, threads, ranks, compile, and what else may differ"
    )


class Draft(_Model):
    """A finished artifact before it is stored: everything but its files.

    ``recipe`` is the payload whose ``sha256_json`` is ``fingerprint``.
    """

    stage: Segment
    kind: Segment
    fingerprint: Sha256
    recipe: dict[str, Any]
    parents: tuple[Parent, ...] = ()
    metrics: dict[str, int | float | str] = Field(default_factory=dict)
    key_metric: str = ""
    provenance: Provenance = Field(default_factory=Provenance)
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @model_validator(mode="after")
    def _consistent(self) -> Draft:
        if sha256_json(self.recipe) != self.fingerprint:
            raise ValueError("fingerprint is not the sha256_json of recipe")
        return self


class Manifest(Draft):
    """A stored artifact. Its ``hex``, the sha256 of its bytes, is the name it is stored under."""

    schema_number: Literal[1] = Field(alias="schema")
    digest: Sha256
    files: tuple[FileEntry, ...]
    run_files: tuple[FileEntry, ...] = ()

    @model_validator(mode="after")
    def _digest_of_files(self) -> Manifest:
        if payload_digest(self.files) != self.digest:
            raise ValueError("digest is not that of files")
        return self

    @property
    def hex(self) -> str:
        """sha256 of the stored bytes."""
        return self.sha256_of(self.to_bytes())

    @staticmethod
    def sha256_of(data: bytes) -> str:
        """sha256 of a manifest's bytes."""
        return hashlib.sha256(data).hexdigest()

    @property
    def total_bytes(self) -> int:
        """Size of the payload and of ``run/`` together."""
        return sum(entry.size for entry in (*self.files, *self.run_files))

    def all_files(self) -> dict[str, FileEntry]:
        """Path in a checked-out folder -> entry: the payload at the root, then ``run/...``."""
        return {entry.path: entry for entry in self.files} | {
            f"run/{entry.path}": entry for entry in self.run_files
        }

    def to_bytes(self) -> bytes:
        """The canonical JSON that is stored."""
        return canonical_json(self.model_dump(mode="json", by_alias=True)).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Parse stored bytes; raises DataError if they are no manifest this program understands."""
        try:
            return cls.model_validate_json(data)
        except UsageError as error:
            raise DataError(f"manifest: {error.message}") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "JSON"
            raise DataError(
                f"manifest: {field}: {first['msg']}", "a newer program may have written it"
            ) from error


def payload_digest(files: tuple[FileEntry, ...]) -> str:
    """The artifact digest: sha256 of the canonical JSON of the sorted (path, size, sha256) list."""
    return sha256_json(sorted([entry.path, entry.size, entry.sha256] for entry in files))


def draft_manifest(draft: Draft, files: tuple[FileEntry, ...], run_files: tuple[FileEntry, ...]) -> Manifest:
    """The manifest of a draft and its files; secrets are redacted, but the recipe must be clean already."""
    if redact_json(draft.recipe, {}) != draft.recipe:
        raise ValueError("the recipe holds a secret: build it with fingerprint.recipe()")
    values = draft.model_dump()
    values["provenance"] = redact_json(values["provenance"])
    values["metrics"] = redact_json(values["metrics"])
    return Manifest(schema=1, digest=payload_digest(files), files=files, run_files=run_files, **values)
