"""Artifacts as one tar, to move them between stores: what is in it, and where its limits are.

``index.json`` comes first: the names of the artifacts and the size of every other member. Those follow in
order under the keys that they have in a store, so their names hold their sha256: the blobs, then the
manifests. Times, owners and modes are constant: equal content makes equal bytes.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from artifacts import layout
from artifacts.errors import DataError
from artifacts.manifest import Manifest, Sha256
from artifacts.paths import is_sha256
from artifacts.ref import ArtifactRef

INDEX = "index.json"
MAX_MEMBERS = 50_000
MAX_RECORD_BYTES = 32 << 20  # the index, and all manifests together: these are held in memory
MAX_RATIO, SMALL_BYTES = 200, 100 << 20  # more bytes out than RATIO x the file is a bomb, if not SMALL

Stream = BinaryIO | gzip.GzipFile


def _version_ref(text: str) -> str:
    if ArtifactRef.parse(text).version is None:
        raise ValueError("not kind/name@vN")
    return text


_VersionRef = Annotated[str, AfterValidator(_version_ref)]


class Entry(BaseModel):
    """One artifact of an archive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ref: _VersionRef | None = Field(description="its name where it was exported")
    manifest: Sha256
    answers: bool = Field(description="its fingerprint pointed to it")


class Index(BaseModel):
    """What an archive holds; ``members``: the size in bytes of every member but the index."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_number: Literal[1] = Field(alias="schema")
    root: _VersionRef
    artifacts: tuple[Entry, ...]
    members: dict[str, Annotated[int, Field(ge=0)]]

    @property
    def total_bytes(self) -> int:
        """Size of everything but the index, unpacked."""
        return sum(self.members.values())

    @property
    def names(self) -> list[tuple[ArtifactRef, str]]:
        """(name, key of the manifest) of each artifact that has one, older versions first."""
        return sorted(
            (ArtifactRef.parse(entry.ref), layout.manifest(entry.manifest))
            for entry in self.artifacts
            if entry.ref
        )


def sizes(path: Path, manifests: list[Manifest]) -> dict[str, int]:
    """Key -> size of the blobs and manifests of artifacts, in order."""
    sizes: dict[str, int] = {}
    for manifest in manifests:
        _check_paths(path, manifest)
        sizes[layout.manifest(manifest.hex)] = len(manifest.to_bytes())
        for entry in manifest.all_files().values():
            if sizes.setdefault(layout.blob(entry.sha256), entry.size) != entry.size:
                refuse(path, f"{entry.path[:80]!r} has two sizes")
    return dict(sorted(sizes.items()))


def check_limits(path: Path, index: Index) -> None:
    """Few enough members, each under the key of a blob or a manifest, and manifests that fit in memory."""
    if len(index.members) > MAX_MEMBERS:
        refuse(path, f"it lists {len(index.members)} files, at most {MAX_MEMBERS} are allowed")
    for key in index.members:
        sha256 = sha256_in(key)
        if not is_sha256(sha256) or key not in (layout.blob(sha256), layout.manifest(sha256)):
            refuse(path, f"its index lists {key[:80]!r}, which is no blob and no manifest")
    manifest_bytes = sum(size for key, size in index.members.items() if is_manifest(key))
    if manifest_bytes > MAX_RECORD_BYTES:
        refuse(path, f"its manifests have {manifest_bytes} bytes, at most {MAX_RECORD_BYTES} are allowed")


def _check_paths(path: Path, manifest: Manifest) -> None:
    """No two files of an artifact are one where letters have no case, and none is another's folder."""
    names = [entry.path for entry in manifest.files] + [f"run/{entry.path}" for entry in manifest.run_files]
    seen: set[str] = set()
    for name in sorted(name.lower() for name in names):
        if name in seen or any(str(folder) in seen for folder in Path(name).parents):
            refuse(path, f"{manifest.kind} has two files at {name[:80]!r}", "rename one")
        seen.add(name)


def is_manifest(key: str) -> bool:
    return key.startswith(f"{layout.MANIFESTS}/")


def sha256_in(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")


def refuse(path: Path, what: str, hint: str = "") -> NoReturn:
    line = "".join(letter if letter.isprintable() else "?" for letter in what)
    raise DataError(f"{path.name}: {line}", hint or "use a file that nanochat art export made")
