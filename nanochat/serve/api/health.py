"""``/healthz`` (it lives), ``/readyz`` (send it requests), ``/metrics``."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from nanochat.serve.api.metrics import CONTENT_TYPE, Metrics
from nanochat.serve.drain import Drain


def health_routes(drain: Drain, metrics: Metrics) -> APIRouter:
    """The routes; they wait for nothing."""
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @routes.get("/readyz")
    async def readyz() -> JSONResponse:
        return JSONResponse({"status": "ending"}, 503) if drain.begun else JSONResponse({"status": "ok"})

    @routes.get("/metrics")
    async def numbers() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return routes
