"""The pages of the web app, made on the server; they load nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from nanochat.serve.artifact_pages import artifact_routes
from nanochat.serve.catalog import Catalog
from nanochat.serve.run_pages import run_routes
from nanochat.serve.templating import page
from nanochat.serve.tool_pages import tool_routes
from nanochat.tokenizer import view_html

__all__ = ["login_page", "page", "page_routes"]

_STATIC = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def page_routes(catalog: Catalog) -> APIRouter:
    """The pages over one catalog."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    def chat() -> HTMLResponse:
        return page("chat.html")

    @routes.get("/login")
    def login() -> HTMLResponse:
        return login_page()

    @routes.get("/static/{name}")
    def static(name: str) -> Response:
        return static_file(name)

    @routes.get("/style.css")
    def style() -> RedirectResponse:
        return RedirectResponse("/static/style.css", 301)

    for more in (artifact_routes, run_routes, tool_routes):
        routes.include_router(more(catalog))
    return routes


def login_page(status: int = 200, said: str = "") -> HTMLResponse:
    """What asks for a key. It needs no other file: who has no key gets none. ``said``: what was wrong."""
    answer = page("login.html", status, said=said)
    (style,) = re.findall(rb"<style>(.*?)</style>", answer.body, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    answer.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    return answer


def static_file(name: str) -> Response:
    """A script, a style or a picture of ours; 404 for anything else."""
    if name == "tokens.css":
        return Response(view_html.STYLE, media_type="text/css")
    path = next((path for path in _STATIC.iterdir() if path.name == name and path.suffix in _TYPES), None)
    if path is None:
        return page("error.html", 404, message=f"there is no file {name}", hint="")
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix])
