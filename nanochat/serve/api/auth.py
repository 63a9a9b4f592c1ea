"""Who may ask: with keys set, whoever has one; without, only this machine."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import Field
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from nanochat.serve.api.errors import ApiError, error_response, is_api
from nanochat.serve.api.limits import RateLimit
from nanochat.serve.api.schemas import Body, read
from nanochat.serve.pages import login_page
from nanochat.serve.settings import ServeSettings, is_loopback

COOKIE = "nanochat_key"
OPEN = ("/healthz", "/readyz")  # whoever starts and stops servers has no key
_LOGINS_A_MINUTE = 10
_COOKIE_S = 30 * 24 * 3600


class Login(Body):
    """``POST /login``."""

    key: str = Field(max_length=1000)


class Auth:
    """Middleware. Sets ``scope["state"]["key"]``, a name for the key that was shown, not the key."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN:
            refusal = self._with_keys(scope) if self._keys else _without_keys(scope)
            if refusal is not None:
                return await refusal(scope, receive, send)
        await self._app(scope, receive, send)

    def _with_keys(self, scope: Scope) -> Response | None:
        if (key := shown_key(scope)) and is_one_of(key, self._keys):
            scope.setdefault("state", {})["key"] = "key " + hashlib.sha256(key.encode()).hexdigest()[:8]
            return None
        if scope["path"] == "/login" and scope["method"] == "POST":
            return None
        said = "no API key" if not key else "a wrong API key"
        hint = "send it as Authorization: Bearer KEY"
        if is_api(scope["path"]) or b"text/html" not in dict(scope["headers"]).get(b"accept", b""):
            headers = {"WWW-Authenticate": "Bearer"}
            return error_response(ApiError(401, f"{said}: {hint}", code="invalid_api_key", headers=headers))
        return login_page(401)


def shown_key(scope: Scope) -> str:
    """The key of a request, from its header or its cookie; empty if there is none."""
    headers = dict(scope["headers"])
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return str(key.strip())
    return cookie_parser(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE, "")


def is_one_of(key: str, keys: tuple[str, ...]) -> bool:
    """True if it is; how long that takes tells nothing about the keys."""
    return any([hmac.compare_digest(key.encode(), one.encode()) for one in keys])


def _without_keys(scope: Scope) -> Response | None:
    """403 where a stranger may be asking: from another machine, or through a name that a page made up.

    Other machines may look at pages, and change nothing.
    """
    server = (scope.get("server") or (None, 0))[0]
    if server is None or server == "testserver":  # no address: a socket of this machine; or a test's client
        return None
    if is_loopback(server):
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if is_loopback(name):
            return None
        said = f"the host {name[:100]!r} is not this machine"
        return error_response(ApiError(403, said, code="wrong_host"))
    if is_api(scope["path"]) or scope["method"] not in ("GET", "HEAD"):
        said = "only this machine may ask without a key: set NANOCHAT_API_KEYS on the server"
        return error_response(ApiError(403, said, code="no_keys"))
    return None


def login_routes(settings: ServeSettings) -> APIRouter:
    """``POST /login``: a key, once shown, becomes a cookie that no script can read."""
    routes = APIRouter()
    limit = RateLimit(_LOGINS_A_MINUTE)

    @routes.post("/login")
    async def login(request: Request) -> Response:
        limit.take(request.client.host if request.client else "")
        is_form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        key = await (_typed_key(request) if is_form else _sent_key(request))
        if not is_one_of(key, settings.api_keys):
            if is_form:
                return login_page(401, "That is not one of the keys.")
            raise ApiError(401, "a wrong API key", code="invalid_api_key")
        answer = RedirectResponse("/", 303) if is_form else Response(status_code=204)
        answer.set_cookie(
            COOKIE, key, max_age=_COOKIE_S, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    return routes


async def _typed_key(request: Request) -> str:
    """The key in a form of a page."""
    return parse_qs((await request.body()).decode("latin-1")).get("key", [""])[0].strip()


async def _sent_key(request: Request) -> str:
    """The key in a JSON body; empty if it has none."""
    try:
        return (await read(request, Login)).key.strip()
    except ApiError as error:
        if error.status_code != 400:
            raise
        return ""
