"""What decides whether a stage has to run again: one canonical JSON payload and its sha256.

The payload (``recipe``) is stored with the artifact, so that a miss is explained field by field.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifacts.atomic import digest_into
from artifacts.errors import DataError, UsageError
from artifacts.imports import dynamic_imports, import_closure, module_digest
from artifacts.redact import redact_json

__all__ = [
    "canonical_json", "dynamic_imports", "explain", "import_closure", "module_digest", "recipe",
    "rust_digest", "sha256_json",
]  # fmt: skip

_SECTIONS = {"inputs": "input", "modules": "module"}


def canonical_json(value: Any) -> str:
    """The one JSON text of ``value``: sorted keys, no spaces, ASCII.

    Raises TypeError or ValueError for what has no stable identity: NaN and Inf, sets, bytes,
    callables, objects (subclasses of str, int and float too), keys that are not strings.
    """
    _check(value, "value")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_json(value: Any) -> str:
    """Hex sha256 of ``canonical_json(value)``."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def recipe(
    stage: str,
    version: int,
    config: Mapping[str, Any],
    *,
    inputs: Mapping[str, str],
    modules: Mapping[str, str],
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The payload of a fingerprint; ``sha256_json`` of it is the fingerprint.

    inputs: role -> artifact digest. modules: module -> ``module_digest``. extra: anything else that
    decides the output, such as ``{"rustbpe": rust_digest(...)}``.
    A secret is not identity: user information and queries of URLs and values under secret names are
    redacted. Raises UsageError for the value of a secret environment variable anywhere else.
    """
    payload = {
        "stage": stage, "version": version, "config": redact_json(dict(config), {}), "inputs": dict(inputs),
        "modules": dict(modules), "extra": redact_json(dict(extra or {}), {}),
    }  # fmt: skip
    if redact_json(payload) != payload:
        raise UsageError(
            f"the config of {stage} holds a secret of the environment", "leave it in the environment"
        )
    return payload


def rust_digest(crate: Path) -> str:
    """sha256 over the Rust sources under ``crate/src`` and ``crate/Cargo.lock``."""
    files = sorted((crate / "src").rglob("*.rs"))
    lock = crate / "Cargo.lock"
    if not files or not lock.is_file():
        raise DataError(f"{crate} is not a Rust crate", "it needs src/*.rs and Cargo.lock")
    return sha256_json([[path.relative_to(crate).as_posix(), digest_into(path)] for path in [*files, lock]])


def explain(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What differs between two payloads: ``{"what": "field"|"input"|"module", "name", "old", "new"}``.

    A value that one of them lacks is None there. Config fields carry their dotted name.
    """
    before, after = _flatten(old), _flatten(new)
    names = sorted(before.keys() | after.keys())
    return [
        {"what": what, "name": name, "old": before.get((what, name)), "new": after.get((what, name))}
        for what, name in names
        if _text(before, (what, name)) != _text(after, (what, name))
    ]


def _text(flat: Mapping[tuple[str, str], Any], key: tuple[str, str]) -> str | None:
    return canonical_json(flat[key]) if key in flat else None


def _flatten(payload: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    flat: dict[tuple[str, str], Any] = {}
    for section, value in payload.items():
        if section in _SECTIONS:
            flat.update({(_SECTIONS[section], name): digest for name, digest in value.items()})
        elif section == "config":
            flat.update({("field", name): item for name, item in _leaves(value, "")})
        else:
            flat.update({("field", name): item for name, item in _leaves(value, section)})
    return flat


def _leaves(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not name):
        prefix = f"{name}." if name else ""
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{prefix}{key}")]
    return [(name, value)]


def _check(value: Any, where: str) -> None:
    kind = type(value)
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{where} is {value}: not finite")
    if kind in (str, int, float, bool, type(None)):
        return
    if kind in (list, tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"{where} has the key {key!r}: only strings have a stable identity")
            _check(item, f"{where}.{key}")
    else:
        raise TypeError(f"{where} is a {kind.__name__}: it has no stable identity")
