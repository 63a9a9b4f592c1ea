"""The web app: pages made on the server, without scripts, that load nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from artifacts.errors import NanochatError, ResourceError, UsageError
from nanochat.report import formatting
from nanochat.serve.catalog import Catalog

_TEMPLATES = Path(__file__).parent / "templates"
_NEWEST = 200
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# A report brings its style and pictures along. It was made from what others wrote: it gets no origin of ours.
_REPORT = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


def create_app(catalog: Catalog) -> FastAPI:
    """The app over one catalog."""
    app = FastAPI(title="nanochat-pipeline", docs_url=None, redoc_url=None, openapi_url=None)
    pages = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    pages.filters.update(size=formatting.size, moment=moment_text, short=short)

    def page(name: str, status: int = 200, **values: object) -> HTMLResponse:
        return HTMLResponse(pages.get_template(name).render(values), status)

    @app.middleware("http")
    async def with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(NanochatError)
    def failed(request: Request, error: NanochatError) -> HTMLResponse:
        status = 404 if isinstance(error, ResourceError | UsageError) else 500
        return page("error.html", status, message=error.message, hint=error.hint)

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/style.css")
    def style() -> Response:
        return Response((_TEMPLATES / "style.css").read_bytes(), media_type="text/css")

    @app.get("/")
    def index() -> HTMLResponse:
        return page("index.html", rows=catalog.artifacts(_NEWEST), most=_NEWEST)

    @app.get("/artifacts/{kind}/{name}")
    def artifact(kind: str, name: str) -> HTMLResponse:
        return page("artifact.html", artifact=catalog.artifact(f"{kind}/{name}"))

    @app.get("/artifacts/{kind}/{name}/{file}.html")
    def report(kind: str, name: str, file: str) -> HTMLResponse:
        return HTMLResponse(catalog.page(f"{kind}/{name}", f"{file}.html"), headers=_REPORT)

    return app


def moment_text(created: str) -> str:
    """RFC 3339 as people read it: 2026-11-22 07:38 UTC."""
    return f"{datetime.fromisoformat(created).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def short(value: object) -> str:
    """A value with no more than six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
