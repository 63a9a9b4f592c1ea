"""A chat API that answers what the test has planned, as slowly as it says; and the web app around it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from nanochat.serve.app import create_app
from tests.unit.nanochat.serve.made_up_catalog import MadeUpCatalog

STATS = {
    "context_tokens": 256, "context_used": 133, "messages_dropped": 0, "cached_tokens": 90,
    "tokens_per_second": 61.2, "waited_s": 0.0, "first_token_s": 0.12,
}  # fmt: skip
Piece = str | tuple[str, str]  # text, or (type, text) of a tool


@dataclass
class Plan:
    """One answer. ``cut``: bytes a network packet has; ``error``: what comes instead of the end."""

    pieces: list[Piece]
    pause_s: float = 0.0
    stats: dict[str, Any] = field(default_factory=dict)
    finish: str = "stop"
    cut: int = 0
    status: int = 200
    error: str = ""
    torn: bool = False  # the connection ends within the last event


@dataclass
class ScriptedApi:
    """``plans`` are answered one after the other, the last one for ever. ``asked``: the bodies that came."""

    plans: list[Plan] = field(default_factory=lambda: [Plan(["It is ", "82."])])
    asked: list[dict[str, Any]] = field(default_factory=list)
    left: int = 0

    def add_to(self, app: FastAPI) -> None:
        @app.get("/v1/models")
        def models() -> dict[str, Any]:
            known = {
                "rl/demo@v1": (["latest", "prod"], True),
                "sft/demo@v1": ([], True),
                "base/demo@v2": ([], False),
            }
            rows = [
                {"id": ref, "object": "model", "created": 0, "owned_by": "nanochat",
                 "nanochat": {"aliases": aliases, "chat": chat, "loaded": False}}
                for ref, (aliases, chat) in known.items()
            ]  # fmt: skip
            return {"object": "list", "data": rows}

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Any:
            self.asked.append(await request.json())
            plan = self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
            if plan.status != 200:
                error = {"error": {"message": plan.error, "type": "x", "param": None, "code": None}}
                return JSONResponse(error, plan.status, {"Retry-After": "3"})
            return StreamingResponse(self._stream(plan), media_type="text/event-stream")

    async def _stream(self, plan: Plan) -> AsyncIterator[bytes]:
        ended = False
        try:
            for piece in plan.pieces:
                for packet in _packets(_line(_chunk(piece)), plan.cut):
                    yield packet
                    await asyncio.sleep(0.001 if plan.cut else 0)
                await asyncio.sleep(plan.pause_s)
            if plan.error:
                yield _line({"error": {"message": plan.error}})
            elif plan.torn:
                yield _line({"choices": [{"delta": {}, "finish_reason": "stop"}]}).rstrip()
            elif plan.finish:
                yield _line({"choices": [{"index": 0, "delta": {}, "finish_reason": plan.finish}],
                             "nanochat": {"ended": plan.finish, **STATS, **plan.stats}})  # fmt: skip
                yield b"data: [DONE]\n\n"
            ended = True
        finally:
            self.left += not ended


def _chunk(piece: Piece) -> dict[str, Any]:
    delta = (
        {"content": piece}
        if isinstance(piece, str)
        else {"nanochat_tool": dict(zip(("type", "text"), piece, strict=True))}
    )
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }


def _line(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def _packets(data: bytes, size: int) -> Iterator[bytes]:
    size = size or len(data)
    yield from (data[begin : begin + size] for begin in range(0, len(data), size))


@contextmanager
def site(folder: Path) -> Iterator[tuple[str, ScriptedApi, MadeUpCatalog]]:
    """The web app over made-up artifacts on loopback: its address, its API and its catalog."""
    catalog, api = MadeUpCatalog(folder), ScriptedApi()
    app = create_app(catalog)
    api.add_to(app)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", api, catalog
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(20)
        listening.close()
