"""The keys of the objects in a store, the same for every backend, and the small records behind them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from artifacts.errors import DataError, UsageError
from artifacts.paths import is_sha256, relative_path, segment

STORE = "store.json"
BLOBS, MANIFESTS, FINGERPRINTS = "blobs/sha256", "manifests", "fingerprints"
NAMES, ALIASES, LEASES, ATTEMPTS = "names", "aliases", "leases", "attempts"
METRICS, SIGNATURES, PINS, LISTS = "metrics", "signatures", "pins", "lists"

_VERSION = re.compile(rf"(?:{NAMES}|{PINS})/([^/]+)/([^/]+)/v([1-9][0-9]{{0,8}})\.json")
_ALIAS = re.compile(rf"{ALIASES}/([^/]+)/([^/]+)/([^/]+)\.json")
_SNAPSHOT = re.compile(rf"{ATTEMPTS}/([0-9a-f]{{64}})/([0-9]{{8,18}})-([0-9]{{1,18}})(?:\.json|/.+)")
_LISTED = re.compile(rf"{LISTS}/([^/]+)/([^/]+)\.json")


def blob(sha256: str) -> str:
    """Key of a file's bytes."""
    return f"{BLOBS}/{_hex(sha256)[:2]}/{sha256}"


def manifest(sha256: str) -> str:
    """Key of a manifest."""
    return f"{MANIFESTS}/{_hex(sha256)}.json"


def fingerprint(stage: str, sha256: str) -> str:
    """Key of the pointer from a fingerprint to a manifest: the commit point."""
    return f"{FINGERPRINTS}/{segment(stage, 'stage')}/{_hex(sha256)}.json"


def names(kind: str, name: str) -> str:
    """Prefix of the versions of one name."""
    return under(NAMES, kind, name)


def under(records: str, kind: str | None, name: str | None) -> str:
    """Prefix of the records (NAMES, ALIASES, LISTS) of everything, of one kind, or of one name of a kind."""
    parts = [] if kind is None else [segment(kind, "artifact kind")]
    parts += [] if kind is None or name is None else [segment(name, "artifact name")]
    return "/".join([records, *parts, ""])


def version(kind: str, name: str, number: int) -> str:
    """Key of the pointer from ``kind/name@vN`` to a manifest."""
    return f"{names(kind, name)}v{number}.json"


def version_of(key: str) -> tuple[str, str, int] | None:
    """Kind, name and number of the version that a key of names/ or pins/ is about, else None."""
    match = _VERSION.fullmatch(key)
    return (match[1], match[2], int(match[3])) if match else None


def pin(kind: str, name: str, number: int) -> str:
    """Key of the pin of ``kind/name@vN``."""
    return f"{PINS}/{names(kind, name).partition('/')[2]}v{number}.json"


def aliases(kind: str, name: str) -> str:
    """Prefix of the aliases of one name."""
    return under(ALIASES, kind, name)


def alias(kind: str, name: str, text: str) -> str:
    """Key of an alias record."""
    return f"{aliases(kind, name)}{segment(text, 'alias')}.json"


def alias_of(key: str) -> tuple[str, str, str] | None:
    """(kind, name, alias) of an alias's key; None for any other."""
    match = _ALIAS.fullmatch(key)
    return (match[1], match[2], match[3]) if match else None


def listed(kind: str, name: str) -> str:
    """Key of what lists show of one name."""
    return f"{LISTS}/{segment(kind, 'artifact kind')}/{segment(name, 'artifact name')}.json"


def listed_of(key: str) -> tuple[str, str] | None:
    """(kind, name) that a key of lists/ is about; None for any other."""
    match = _LISTED.fullmatch(key)
    return (match[1], match[2]) if match else None


def lease(key: str) -> str:
    """Key of a lease; ``key`` may have several segments."""
    return f"{LEASES}/{'/'.join(segment(part, 'lease') for part in key.split('/'))}.json"


def attempt(fingerprint: str) -> str:
    """Prefix of the files of unfinished work."""
    return f"{ATTEMPTS}/{_hex(fingerprint)}"


@dataclass(frozen=True, order=True)
class Snapshot:
    """Unfinished work at a step, stored by the holder of a lease. The one of the highest step is newest."""

    fingerprint: str
    step: int
    fence: int

    @property
    def manifest(self) -> str:
        """Key of the list of its files, without which it does not count."""
        return f"{self._base}.json"

    def file(self, path: str) -> str:
        """Key of one of its files."""
        return f"{self._base}/{relative_path(path)}"

    @property
    def _base(self) -> str:
        return f"{attempt(self.fingerprint)}/{self.step:08d}-{self.fence}"


def snapshot_of(key: str) -> Snapshot | None:
    """The snapshot that a key of attempts/ belongs to; None for any other."""
    match = _SNAPSHOT.fullmatch(key)
    return Snapshot(match[1], int(match[2]), int(match[3])) if match else None


def metrics(day: str, sha256: str) -> str:
    """Key of the measurements of the artifact with this manifest, made on ``day`` (YYYY-MM-DD)."""
    try:
        checked = date.fromisoformat(day).isoformat()
    except ValueError:
        raise UsageError(f"{day[:80]!r} is no day", "write YYYY-MM-DD") from None
    return f"{METRICS}/{checked}/{_hex(sha256)}.parquet"


def signature(sha256: str, key: str) -> str:
    """Key of the signature of the manifest with this sha256 by the key with this fingerprint."""
    return f"{SIGNATURES}/{_hex(sha256)}/{_hex(key)[:16]}.json"


def lives_with(key: str) -> str:
    """The key of what an object is kept for: a signature's is its manifest, any other's is itself."""
    return f"{MANIFESTS}/{key.split('/')[1]}.json" if key.startswith(f"{SIGNATURES}/") else key


def encode(record: dict[str, Any]) -> bytes:
    """A small record as JSON that people can read."""
    return (json.dumps(record, sort_keys=True, ensure_ascii=True, allow_nan=False, indent=1) + "\n").encode(
        "ascii"
    )


def decode(key: str, data: bytes) -> dict[str, Any]:
    """The record stored under ``key``; raises DataError if it is damaged."""
    try:
        record = json.loads(data)
    except ValueError as error:
        raise DataError(f"{key} is damaged: not JSON", "rebuild what it names with --force") from error
    if not isinstance(record, dict):
        raise DataError(f"{key} is damaged: not an object", "rebuild what it names with --force")
    return record


def _hex(sha256: str) -> str:
    if not is_sha256(sha256):
        raise UsageError(f"{sha256[:80]!r} is not a sha256", "64 lower-case hex digits")
    return sha256
