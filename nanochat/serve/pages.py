"""The pages of the web app, made on the server; they load nothing from elsewhere."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nanochat.report import formatting
from nanochat.serve.catalog import Catalog

_TEMPLATES = Path(__file__).parent / "templates"
_NEWEST = 200
# A report brings its style and pictures along. It was made from what others wrote: it gets no origin of ours.
_REPORT = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


def page(name: str, status: int = 200, **values: object) -> HTMLResponse:
    """A template, filled; everything in it is escaped."""
    return HTMLResponse(_environment().get_template(name).render(values), status)


def page_routes(catalog: Catalog) -> APIRouter:
    """The pages over one catalog."""
    routes = APIRouter()

    @routes.get("/style.css")
    def style() -> Response:
        return Response((_TEMPLATES / "style.css").read_bytes(), media_type="text/css")

    @routes.get("/")
    def index() -> HTMLResponse:
        return page("index.html", rows=catalog.artifacts(_NEWEST), most=_NEWEST)

    @routes.get("/artifacts/{kind}/{name}")
    def artifact(kind: str, name: str) -> HTMLResponse:
        return page("artifact.html", artifact=catalog.artifact(f"{kind}/{name}"))

    @routes.get("/artifacts/{kind}/{name}/{file}.html")
    def report(kind: str, name: str, file: str) -> HTMLResponse:
        return HTMLResponse(catalog.page(f"{kind}/{name}", f"{file}.html"), headers=_REPORT)

    return routes


@functools.cache
def _environment() -> Environment:
    pages = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    pages.filters.update(size=formatting.size, moment=moment_text, short=short)
    return pages


def moment_text(created: str) -> str:
    """RFC 3339 as people read it: 2026-11-22 07:38 UTC."""
    return f"{datetime.fromisoformat(created).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def short(value: object) -> str:
    """A value with no more than six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
