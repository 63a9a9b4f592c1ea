"""One line of JSON a request, and its numbers; whatever a client sent stays on that line."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from artifacts.redact import REDACTED
from nanochat.serve.api.limits import client_of
from nanochat.serve.api.metrics import Metrics

LOG = logging.getLogger("nanochat.serve")
LONGEST_FIELD, LONGEST_TEXT = 500, 6_000  # bytes, as written; texts are questions and answers
CLOSED = 499  # the client was gone before the answer began
_ASKED_OFTEN = ("/healthz", "/readyz", "/metrics")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestLog:
    """The outermost middleware. Handlers add to ``scope["state"]["log"]``, a dict."""

    def __init__(self, app: ASGIApp, metrics: Metrics, secrets: tuple[str, ...] = ()) -> None:
        self._app, self._metrics, self._secrets = app, metrics, secrets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        state = scope.setdefault("state", {})
        more: dict[str, Any] = state.setdefault("log", {})
        status, start = CLOSED, time.monotonic()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            seconds = time.monotonic() - start
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.request(route, method, status, seconds)
            text = line({
                "method": method, "path": scope["path"], "status": status,
                "seconds": round(seconds, 4), "client": client_of(scope), **more,
            })  # fmt: skip
            for secret in self._secrets:
                text = text.replace(secret, REDACTED)
            if status != 200 or scope["path"] not in _ASKED_OFTEN:
                LOG.info(text)


def line(fields: Mapping[str, Any]) -> str:
    """JSON of one line, ASCII without control characters, at most 16 KB."""
    cut = {name: _cut(name, value) for name, value in fields.items()}
    return _ascii({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **cut})


def _cut(name: str, value: Any) -> Any:
    most = LONGEST_TEXT if name in ("question", "answer") else LONGEST_FIELD
    if not isinstance(value, str) or len(_ascii(value)) <= most:
        return value
    value = value[:most]
    while (size := len(_ascii(value))) > most:
        value = value[: len(value) * most // size]
    return f"{value} (cut)"


def _ascii(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, default=str).replace("\x7f", "\\u007f")


class JsonLines(logging.Formatter):
    """Every record on a line of its own; those of ``RequestLog`` are JSON already."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == LOG.name and record.levelno == logging.INFO:
            return record.getMessage()
        trace = self.formatException(record.exc_info)[-6_000:] if record.exc_info else ""
        fields = {"level": record.levelname, "from": record.name, "message": record.getMessage()[:1_000]}
        return _ascii({
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields,
            **({"trace": trace} if trace else {}),
        })  # fmt: skip


def log_to_stderr() -> None:
    """Send our lines, and what uvicorn has to say, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in ((LOG.name, logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
