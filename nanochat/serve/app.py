"""The web app: its pages, its API, and what every response of it carries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from artifacts.errors import NanochatError, ResourceError, UsageError
from nanochat.serve.api.answering import Service
from nanochat.serve.api.auth import Auth, login_routes
from nanochat.serve.api.chat import chat_routes
from nanochat.serve.api.completions import completion_routes
from nanochat.serve.api.errors import ApiError, error_response, is_api, of_ours
from nanochat.serve.api.health import health_routes
from nanochat.serve.api.limits import BodyLimit, RateLimit
from nanochat.serve.api.metrics import Metrics
from nanochat.serve.api.model_list import model_routes
from nanochat.serve.api.request_log import RequestLog
from nanochat.serve.api.tokens import token_routes
from nanochat.serve.catalog import Catalog
from nanochat.serve.drain import Drain
from nanochat.serve.models import ModelPool
from nanochat.serve.pages import page, page_routes
from nanochat.serve.settings import ServeSettings

LOG = logging.getLogger("nanochat.serve")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app(
    catalog: Catalog, models: ModelPool | None = None, settings: ServeSettings | None = None
) -> FastAPI:
    """The app over one catalog; without ``models`` it has only pages. ``app.state.drain`` ends it."""
    settings = settings or (models.settings if models else ServeSettings())
    drain = Drain()
    metrics = Metrics(models.stats if models else dict)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        dropping = asyncio.create_task(models.drop_idle()) if models else None
        yield
        if models and dropping:
            dropping.cancel()
            await models.close()

    app = FastAPI(
        title="nanochat-pipeline", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.drain = drain
    for middleware, options in (  # the last is the outermost
        (Failures, {}),
        (BodyLimit, {"most": settings.body_bytes}),
        (Auth, {"keys": settings.api_keys}),
        (Headers, {}),
        (RequestLog, {"metrics": metrics, "secrets": settings.api_keys}),
    ):
        app.add_middleware(middleware, **options)
    app.add_exception_handler(NanochatError, _failed)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _wrong_value)
    app.include_router(health_routes(drain, metrics))
    app.include_router(login_routes(settings))
    if models:
        rate = RateLimit(settings.requests_per_minute)
        service = Service(models, settings, metrics, rate, drain)
        app.include_router(chat_routes(service))
        app.include_router(completion_routes(service))
        app.include_router(model_routes(models))
        app.include_router(token_routes(models))
    app.include_router(page_routes(catalog))
    return app


class Headers:
    """Middleware: the headers that every response has, unless it brings its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


class Failures:
    """Middleware: a bug of ours ends in the log, and in a 500 that does not show it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            LOG.exception("a request failed")
            if has_begun:
                raise
            failure = HTTPException(500, "the server failed; its log says why")
            await _refused(Request(scope), failure)(scope, receive, send)


def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, NanochatError)
    if is_api(request.url.path):
        return error_response(of_ours(error))
    status = 404 if isinstance(error, ResourceError | UsageError) else 500
    return page("error.html", status, message=error.message, hint=error.hint)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if is_api(request.url.path) or request.method != "GET":
        return error_response(error)
    return page("error.html", error.status_code, message=error.detail, hint="")


def _wrong_value(request: Request, error: Exception) -> Response:
    """For a part of the address that is not what it should be."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    said = f"{name} is {str(first.get('input'))[:100]!r}: {first['msg']}"[:500]
    return _refused(request, ApiError(400, said, code="invalid_value", param=name[:200]))
