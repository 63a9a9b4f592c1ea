"""A URL in, a whole and verified file out, or no file at all.

Retries with jitter and Retry-After, resumes by Range under If-Range, checks length and sha256 where they
are known, and publishes by one rename. Processes that want the same file wait for one of them to fetch it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import stamina
from filelock import FileLock

from artifacts.atomic import disk_errors, make_directories, sync_directory
from artifacts.errors import DataError, NanochatError, ResourceError
from artifacts.redact import redact_text

_RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


@dataclass(frozen=True)
class Patience:
    """How long a download tries: attempts in all, waits between them, and silence it bears, in seconds."""

    attempts: int = 5
    wait_s: float = 1.0
    max_wait_s: float = 60.0
    silence_s: float = 30.0


@dataclass(frozen=True)
class Expected:
    """What is known of the file before it is fetched; None where nothing is."""

    sha256: str | None = None
    size: int | None = None


PATIENCE, UNKNOWN = Patience(), Expected()


class _TryAgainError(Exception):
    """An attempt failed in a way that may pass; ``error`` is what to say if it does not."""

    def __init__(self, error: NanochatError, wait_s: float | None = None) -> None:
        super().__init__(error.message)
        self.error, self.wait_s = error, wait_s


def download(
    url: str,
    target: Path,
    *,
    expected: Expected = UNKNOWN,
    hosts: tuple[str, ...] = (),
    patience: Patience = PATIENCE,
) -> Path:
    """Fetch ``url`` to ``target`` unless it is there already, and return ``target``.

    ``hosts``: domains that redirects may lead to besides the host of ``url``. Raises ResourceError when
    it cannot be had, DataError when what comes is not what is expected; ``target`` is then absent.
    """
    if target.is_file():
        return target
    make_directories(target.parent)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if not target.is_file():
            part = target.with_name(f".{target.name}.part")
            try:
                _fetch(url, part, expected, hosts, patience)
            except _TryAgainError as failure:
                raise failure.error from None
            os.replace(part, target)
            _state_of(part).unlink(missing_ok=True)
            sync_directory(target.parent)
    return target


def _fetch(url: str, part: Path, expected: Expected, hosts: tuple[str, ...], patience: Patience) -> None:
    def wait(error: Exception) -> bool | float:
        if not isinstance(error, _TryAgainError):
            return False
        return True if error.wait_s is None else min(error.wait_s, patience.max_wait_s)

    retries = stamina.retry_context(
        on=wait, attempts=patience.attempts, timeout=None,
        wait_initial=patience.wait_s, wait_max=patience.max_wait_s, wait_jitter=patience.wait_s,
    )  # fmt: skip
    hooks: dict[str, list[Callable[[httpx.Request], None]]] = {"request": [_guard(httpx.URL(url), hosts)]}
    with httpx.Client(timeout=patience.silence_s, follow_redirects=True, event_hooks=hooks) as client:
        for attempt in retries:
            with attempt, disk_errors(part):
                found = _transfer(client, url, part, expected)
                _verify(url, part, found)


def _guard(origin: httpx.URL, hosts: tuple[str, ...]) -> Callable[[httpx.Request], None]:
    """A check of every request, redirected ones included: it stays on known hosts and on https."""

    def check(request: httpx.Request) -> None:
        host = request.url.host
        known = host == origin.host or any(host == name or host.endswith(f".{name}") for name in hosts)
        if not known or (origin.scheme == "https" and request.url.scheme != "https"):
            raise ResourceError(
                f"download {_shown(str(origin))}: redirected to {request.url.scheme}://{host}, refused"
            )

    return check


def _transfer(client: httpx.Client, url: str, part: Path, expected: Expected) -> Expected:
    """One attempt: add to ``part`` what is missing. Returns what is known of the file now."""
    have, state = _resumable(part)
    if have and have == state.get("total"):
        return replace(expected, size=have)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": str(state["validator"])}
    try:
        with client.stream("GET", url, headers=headers) as response:
            _check_status(url, part, response)
            found, start = _announced(response, expected)
            if start not in (0, have):
                raise _rejected(url, part, f"begins at byte {start}, not {have}")
            resumed = response.status_code == 206 and start == have
            if not resumed:
                _begin(part, response, found.size)
            with part.open("ab") as file:
                for chunk in response.iter_raw():
                    file.write(chunk)
                    if found.size is not None and file.tell() > found.size:
                        raise _rejected(url, part, f"is longer than {found.size} bytes")
                os.fsync(file.fileno())
    except (httpx.TransportError, httpx.TooManyRedirects) as error:
        reason = type(error).__name__
        raise _TryAgainError(ResourceError(f"download {_shown(url)}: {reason}", "try again later")) from None
    return found


def _resumable(part: Path) -> tuple[int, dict[str, object]]:
    """Bytes that an earlier attempt left and may be added to, and what it knew of the file."""
    try:
        state = json.loads(_state_of(part).read_text(encoding="utf-8"))
        return part.stat().st_size, state
    except (FileNotFoundError, ValueError):
        return 0, {}


def _begin(part: Path, response: httpx.Response, total: int | None) -> None:
    """Forget earlier bytes, and note by what the server will know that the file is still the same."""
    part.unlink(missing_ok=True)
    _state_of(part).unlink(missing_ok=True)
    validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
    if validator and not validator.startswith("W/"):
        _state_of(part).write_text(json.dumps({"validator": validator, "total": total}), encoding="utf-8")


def _check_status(url: str, part: Path, response: httpx.Response) -> None:
    if response.is_success:
        return
    message = f"download {_shown(url)}: HTTP {response.status_code}"
    if response.status_code == 416:  # what we have is not a beginning of the file
        raise _rejected(url, part, "does not fit what was fetched before")
    if response.status_code in _RETRIED_STATUS:
        after = _retry_after(response.headers.get("Retry-After", ""))
        raise _TryAgainError(ResourceError(message, "try again later"), after)
    raise ResourceError(message, "check the name, your access, or set NANOCHAT_DATA_MIRROR")


def _announced(response: httpx.Response, expected: Expected) -> tuple[Expected, int]:
    """(size and digest where the server or the caller knows them, the first byte that is sent)."""
    size, start = response.headers.get("Content-Length"), 0
    if match := _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "")):
        start, size = int(match[1]), match[2]
    sha256 = expected.sha256
    for step in [*response.history, response]:  # the hub names the digest on its redirect
        if sha256 is None and (match := _SHA256.fullmatch(step.headers.get("X-Linked-Etag", ""))):
            sha256 = match[1]
    known = int(size) if size and size.isdigit() else None
    return Expected(sha256, expected.size if expected.size is not None else known), start


def _retry_after(value: str) -> float | None:
    """Seconds of a Retry-After header, given as a number or as a date; None when it says neither."""
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _verify(url: str, part: Path, known: Expected) -> None:
    size = part.stat().st_size
    if known.size is not None and size < known.size:
        message = f"download {_shown(url)}: ended at {size} of {known.size} bytes"
        raise _TryAgainError(ResourceError(message, "try again later"))
    if known.size is not None and size > known.size:
        raise _rejected(url, part, f"has {size} bytes, not {known.size}")
    if known.sha256 is not None:
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != known.sha256:
            raise _rejected(url, part, f"has sha256 {digest[:12]}…, not {known.sha256[:12]}…")


def _rejected(url: str, part: Path, reason: str) -> _TryAgainError:
    """Throw away what came: it is wrong, so the next attempt begins anew."""
    part.unlink(missing_ok=True)
    _state_of(part).unlink(missing_ok=True)
    return _TryAgainError(DataError(f"download {_shown(url)} {reason}", "try again later, or another mirror"))


def _state_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _shown(url: str) -> str:
    return redact_text(url)
