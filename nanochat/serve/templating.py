"""Templates of the web app: what fills them escapes everything."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nanochat.report import formatting

_TEMPLATES = Path(__file__).parent / "templates"


def page(name: str, status: int = 200, **values: object) -> HTMLResponse:
    """A template, filled; everything in it is escaped."""
    return HTMLResponse(_environment().get_template(name).render(values), status)


@functools.cache
def _environment() -> Environment:
    pages = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    pages.filters.update(
        size=formatting.size, count=formatting.count, duration=formatting.duration,
        moment=moment_text, short=short,
    )  # fmt: skip
    return pages


def moment_text(created: str) -> str:
    """RFC 3339 as people read it: 2026-11-22 07:38 UTC."""
    return f"{datetime.fromisoformat(created).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def short(value: object) -> str:
    """A value with no more than six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
