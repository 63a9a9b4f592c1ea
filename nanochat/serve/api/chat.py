"""``POST /v1/chat/completions``."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from nanochat.engine.budget import fit
from nanochat.engine.request import Delta, Request, TokenLogprob
from nanochat.serve.api.answering import Ended, Service, answer
from nanochat.serve.api.engine_request import engine_request
from nanochat.serve.api.errors import ApiError
from nanochat.serve.api.prompts import as_conversation, recent
from nanochat.serve.api.schemas import ChatRequest, read
from nanochat.serve.models import LoadedModel
from nanochat.serve.settings import ServeSettings


def chat_routes(service: Service) -> APIRouter:
    """The route over the models of a service."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", response_model=None)
    async def chat(http: HttpRequest) -> Response:
        asked = await read(http, ChatRequest)
        if asked.top_logprobs is not None and not asked.logprobs:
            raise ApiError(400, "top_logprobs without logprobs", code="invalid_value", param="top_logprobs")
        return await answer(service, http, ChatForm(asked, service.settings))

    return routes


class ChatForm:
    """An answer as a chat has it: text, and beside it the calls of the calculator."""

    def __init__(self, asked: ChatRequest, settings: ServeSettings) -> None:
        self.asked = asked
        kept = recent(asked.messages, settings)
        self._messages, self._too_many = as_conversation(kept), len(asked.messages) - len(kept)
        self.question: str = self._messages[-1]["content"]
        self._dropped = 0
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time())}

    def request(self, model: LoadedModel) -> Request:
        """The messages that fit, and how to answer them."""
        self._head["model"] = model.ref
        asked = self.asked
        prompt, dropped = fit(
            model.tokenizer, self._messages,
            context_tokens=model.context_tokens, answer_tokens=asked.wanted_tokens,
        )  # fmt: skip
        self._dropped = self._too_many + dropped
        logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
        return engine_request(asked, model, prompt, asked.wanted_tokens, logprobs=logprobs, tools=True)

    def opening(self, model: LoadedModel) -> list[dict[str, Any]]:
        """Who speaks."""
        return [self._chunk({"role": "assistant", "content": ""})]

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """Text, or a part of a call."""
        if delta.kind == "text":
            return self._chunk({"content": delta.text}, delta.logprobs)
        return self._chunk({"nanochat_tool": {"type": delta.kind, "text": delta.text}}, delta.logprobs)

    def closing(self, ended: Ended) -> list[dict[str, Any]]:
        """Why it ended, and the number of tokens if that is wanted."""
        last = self._chunk({}, reason=ended.reason) | {"nanochat": ended.facts(self._dropped)}
        if self._counts:
            return [last, {**self._head, "object": _CHUNK, "choices": [], "usage": ended.usage}]
        return [last]

    def whole(self, deltas: Sequence[Delta], ended: Ended) -> dict[str, Any]:
        """The answer in one; its parts too, as they can be sent back."""
        parts: list[dict[str, str]] = []
        for delta in deltas:
            if delta.text and (not parts or parts[-1]["type"] != delta.kind):
                parts.append({"type": delta.kind, "text": ""})
            if delta.text:
                parts[-1]["text"] += delta.text
        content = "".join(part["text"] for part in parts if part["type"] == "text")
        message = {"role": "assistant", "content": content, "refusal": None, "nanochat_parts": parts}
        found = [logprob for delta in deltas for logprob in delta.logprobs]
        choice = {
            "index": 0, "message": message, "finish_reason": ended.reason,
            "logprobs": {"content": [_logprob(one) for one in found]} if self.asked.logprobs else None,
        }  # fmt: skip
        return {
            **self._head, "object": "chat.completion", "choices": [choice], "usage": ended.usage,
            "nanochat": ended.facts(self._dropped),
        }  # fmt: skip

    @property
    def _counts(self) -> bool:
        options = self.asked.stream_options
        return options is not None and options.include_usage

    def _chunk(
        self, delta: dict[str, Any], logprobs: Sequence[TokenLogprob] = (), reason: str | None = None
    ) -> dict[str, Any]:
        said = {"content": [_logprob(one) for one in logprobs]} if logprobs else None
        choice = {"index": 0, "delta": delta, "logprobs": said, "finish_reason": reason}
        usage = {"usage": None} if self._counts else {}
        return {**self._head, "object": _CHUNK, "choices": [choice], **usage}


_CHUNK = "chat.completion.chunk"


def _logprob(one: TokenLogprob) -> dict[str, Any]:
    top = [_token(data, logprob) for _, data, logprob in one.top]
    return {**_token(one.bytes, one.logprob), "top_logprobs": top}


def _token(data: bytes, logprob: float) -> dict[str, Any]:
    return {"token": data.decode(errors="replace"), "bytes": list(data), "logprob": max(logprob, -9999.0)}
