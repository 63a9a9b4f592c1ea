"""Pages about artifacts: models and their aliases, everything else, one of them, and where it came from."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from artifacts.errors import NanochatError, UsageError
from nanochat.serve.catalog import Catalog
from nanochat.serve.forms import is_same_origin, read_form
from nanochat.serve.graph_picture import HEIGHT, WIDTH, picture
from nanochat.serve.templating import page

_NEWEST = 200
# A report brings its style and pictures along. It was made from what others wrote: it gets no origin of ours.
_REPORT = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


def artifact_routes(catalog: Catalog) -> APIRouter:
    """These pages over one catalog."""
    routes = APIRouter()

    @routes.get("/models")
    def models() -> HTMLResponse:
        return page("models.html", rows=catalog.checkpoints(_NEWEST), most=_NEWEST, wrong=None)

    @routes.post("/models/alias")
    async def alias(request: Request) -> Response:
        try:
            form = await read_form(request)
            ref, name = form.get("ref", ""), form.get("alias", "").strip()
            if not ref or not name:
                raise UsageError("no alias was given", "a name such as prod")
            target = await run_in_threadpool(catalog.set_alias, ref, name)
        except NanochatError as error:
            rows = await run_in_threadpool(catalog.checkpoints, _NEWEST)
            status = 400 if is_same_origin(request) else 403
            return page("models.html", status, rows=rows, most=_NEWEST, wrong=error)
        return RedirectResponse(f"/models#{quote(target, safe='/@')}", 303)

    @routes.get("/artifacts")
    def artifacts() -> HTMLResponse:
        return page("artifacts.html", rows=catalog.artifacts(_NEWEST), most=_NEWEST)

    @routes.get("/artifacts/{kind}/{name}")
    def artifact(kind: str, name: str) -> HTMLResponse:
        return page("artifact.html", artifact=catalog.artifact(f"{kind}/{name}"))

    @routes.get("/artifacts/{kind}/{name}/{file}.html")
    def report(kind: str, name: str, file: str) -> HTMLResponse:
        return HTMLResponse(catalog.page(f"{kind}/{name}", f"{file}.html"), headers=_REPORT)

    @routes.get("/lineage/{kind}/{name}")
    def lineage(kind: str, name: str, forward: bool = False) -> HTMLResponse:
        graph = catalog.lineage(f"{kind}/{name}", forward=forward)
        return page("lineage.html", graph=graph, forward=forward, picture=picture(graph), box=(WIDTH, HEIGHT))

    return routes
