"""``/v1/models``: what can be asked for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from nanochat.serve.api.errors import ApiError
from nanochat.serve.models import ModelEntry, ModelPool


def model_routes(pool: ModelPool) -> APIRouter:
    """The routes over a pool."""
    routes = APIRouter()

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        found = await pool.entries()
        return {"object": "list", "data": [_model(entry, loaded) for entry, loaded in found]}

    @routes.get("/v1/models/{ref:path}")
    async def model(ref: str) -> dict[str, Any]:
        full = await pool.ref(ref)
        for entry, loaded in await pool.entries():
            if entry.ref == full:
                return _model(entry, loaded)
        raise ApiError(404, f"no model {ref[:200]}", code="model_not_found", param="model")

    return routes


def _model(entry: ModelEntry, loaded: bool) -> dict[str, Any]:
    ours = {"aliases": list(entry.aliases), "chat": entry.chat, "loaded": loaded}
    created = {"created": entry.created, "owned_by": "nanochat"}
    return {"id": entry.ref, "object": "model", **created, "nanochat": ours}
