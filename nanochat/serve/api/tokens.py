"""``/tokenize`` and ``/detokenize``, with the tokenizer of a model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from artifacts.errors import DataError
from nanochat.serve.api.errors import ApiError
from nanochat.serve.api.schemas import DetokenizeRequest, TokenizeRequest, read
from nanochat.serve.models import ModelPool

if TYPE_CHECKING:
    from nanochat.tokenizer.tokenizer import Tokenizer


def token_routes(pool: ModelPool) -> APIRouter:
    """The routes over the models of a pool."""
    routes = APIRouter()
    most = pool.settings.max_total_chars

    @routes.post("/tokenize")
    async def tokenize(http: Request) -> dict[str, Any]:
        asked = await read(http, TokenizeRequest)
        if len(asked.text) > most:
            raise ApiError(400, f"{len(asked.text)} characters; at most {most}", param="text")
        tokens = await asyncio.to_thread(_tokens, await pool.tokenizer(asked.model), asked.text)
        return {"tokens": tokens, "count": len(tokens)}

    @routes.post("/detokenize")
    async def detokenize(http: Request) -> dict[str, Any]:
        asked = await read(http, DetokenizeRequest)
        if len(asked.tokens) > most:
            raise ApiError(400, f"{len(asked.tokens)} tokens; at most {most}", param="tokens")
        tokenizer = await pool.tokenizer(asked.model)
        try:
            return {"text": tokenizer.decode(asked.tokens)}
        except DataError as error:
            raise ApiError(400, str(error), code="invalid_value", param="tokens") from None

    return routes


def _tokens(tokenizer: Tokenizer, text: str) -> list[dict[str, Any]]:
    pieces = ((token, tokenizer.decode_bytes([token])) for token in tokenizer.encode(text))
    return [{"id": id_, "text": data.decode(errors="replace"), "bytes": data.hex()} for id_, data in pieces]
