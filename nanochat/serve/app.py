"""The web app: its pages, and what every response of it carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from artifacts.errors import NanochatError, ResourceError, UsageError
from nanochat.serve.catalog import Catalog
from nanochat.serve.pages import page, page_routes

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app(catalog: Catalog) -> FastAPI:
    """The app over one catalog."""
    app = FastAPI(title="nanochat-pipeline", docs_url=None, redoc_url=None, openapi_url=None)

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

    app.include_router(page_routes(catalog))
    return app
