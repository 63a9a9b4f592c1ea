"""The keys of the objects in a store, the same for every backend, and the small records behind them."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

from artifacts.errors import DataError, UsageError
from artifacts.paths import is_sha256, segment

STORE = "store.json"
BLOBS, MANIFESTS, FINGERPRINTS = "blobs/sha256", "manifests", "fingerprints"
NAMES, ALIASES, LEASES, ATTEMPTS = "names", "aliases", "leases", "attempts"
METRICS, PINS = "metrics", "pins"

_VERSION = re.compile(r"(?:names|pins)/([^/]+)/([^/]+)/v([1-9][0-9]*)\.json")


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
    return f"{NAMES}/{segment(kind, 'artifact kind')}/{segment(name, 'artifact name')}/"


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
    return f"{ALIASES}/{segment(kind, 'artifact kind')}/{segment(name, 'artifact name')}/"


def alias(kind: str, name: str, text: str) -> str:
    """Key of an alias record."""
    return f"{aliases(kind, name)}{segment(text, 'alias')}.json"


def lease(key: str) -> str:
    """Key of a lease; ``key`` may have several segments."""
    return f"{LEASES}/{'/'.join(segment(part, 'lease') for part in key.split('/'))}.json"


def attempt(fingerprint: str) -> str:
    """Prefix of the files of unfinished work."""
    return f"{ATTEMPTS}/{_hex(fingerprint)}"


def metrics(day: str, sha256: str) -> str:
    """Key of the measurements of the artifact with this manifest, made on ``day`` (YYYY-MM-DD)."""
    try:
        checked = date.fromisoformat(day).isoformat()
    except ValueError:
        raise UsageError(f"{day[:80]!r} is no day", "write YYYY-MM-DD") from None
    return f"{METRICS}/{checked}/{_hex(sha256)}.parquet"


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
