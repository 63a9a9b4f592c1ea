"""Takes secrets and machine paths out of text and JSON before anything is recorded.

Secret are: values whose name says so (token, key, password, …), user information and queries of
URLs, well-known token shapes, and the values of environment variables with such names.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

REDACTED = "[redacted]"

_WORDS = r"(?:api[_-]?key|apikey|key|token|secret|password|passwd|passphrase|credentials?|authorization|auth)"
_SECRET_NAME = re.compile(rf"(?:.*[^a-z])?{_WORDS}", re.IGNORECASE | re.DOTALL)
_ASSIGNMENT = re.compile(
    rf"((?<![A-Za-z]){_WORDS}[\"']?\s*(?:=|:(?!//))\s*[\"']?(?:(?:bearer|basic)\s+)?)([^\s\"',;&]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b((?:bearer|basic)\s+)([A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE)
_URL_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@]*@", re.IGNORECASE)
_URL_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#]*)[?#][^\s\"']*", re.IGNORECASE)
_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[opsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abp]-[A-Za-z0-9-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)"
)
_ABSOLUTE = re.compile(r"(?<![\w.:/~-])(?:file://)?(?:/[\w.+@%~-]+)+/?(?![\w/])")
_SHORTEST_SECRET = 8


def is_secret_name(name: str) -> bool:
    """True if a value of this name must not be shown: ``hub.token`` is, ``max_tokens`` is not."""
    return _SECRET_NAME.fullmatch(name) is not None


def redact_text(text: str, environment: Mapping[str, str] | None = None) -> str:
    """``text`` without secrets; ``environment`` is os.environ by default."""
    for value in _environment_secrets(os.environ if environment is None else environment):
        text = text.replace(value, REDACTED)
    text = _URL_USER.sub(rf"\1{REDACTED}@", text)
    text = _URL_QUERY.sub(r"\1", text)
    text = _BEARER.sub(rf"\1{REDACTED}", text)
    text = _ASSIGNMENT.sub(rf"\1{REDACTED}", text)
    return _SHAPES.sub(REDACTED, text)


def redact_json(value: Any, environment: Mapping[str, str] | None = None) -> Any:
    """A JSON value without secrets; a string under a secret name is replaced, numbers are kept."""
    if isinstance(value, str):
        return redact_text(value, environment)
    if isinstance(value, Mapping):
        return {
            key: REDACTED
            if isinstance(item, str) and item and is_secret_name(str(key))
            else redact_json(item, environment)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_json(item, environment) for item in value]
    return value


def redact_command(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """A command line as one string, without secrets and without absolute paths (the last part stays)."""
    shown: list[str] = []
    for argument in arguments:
        follows_secret = bool(shown) and shown[-1].startswith("-") and is_secret_name(shown[-1].lstrip("-"))
        shown.append(REDACTED if follows_secret else without_paths(redact_text(argument, environment)))
    return " ".join(item if item == REDACTED else shlex.quote(item) for item in shown)


def without_paths(text: str) -> str:
    """``text`` with each absolute path cut to its last part."""
    return _ABSOLUTE.sub(lambda match: ".../" + match[0].rstrip("/").rpartition("/")[2], text)


def _environment_secrets(environment: Mapping[str, str]) -> list[str]:
    values = {
        value
        for name, value in environment.items()
        if is_secret_name(name) and len(value) >= _SHORTEST_SECRET
    }
    return sorted(values, key=len, reverse=True)
