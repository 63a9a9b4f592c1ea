"""``POST /v1/completions``: go on from any text; what a base model can do."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from nanochat.engine.request import Delta, Request, TokenLogprob
from nanochat.serve.api.answering import Ended, Service, answer
from nanochat.serve.api.engine_request import engine_request
from nanochat.serve.api.errors import ApiError
from nanochat.serve.api.schemas import CompletionRequest, read
from nanochat.serve.models import LoadedModel

_OBJECT = "text_completion"
_TOKENS = 16  # OpenAI's default


def completion_routes(service: Service) -> APIRouter:
    """The route over the models of a service."""
    routes = APIRouter()

    @routes.post("/v1/completions", response_model=None)
    async def complete(http: HttpRequest) -> Response:
        asked = await read(http, CompletionRequest)
        form = CompletionForm(asked)
        if len(form.question) > service.settings.max_total_chars:
            said = f"{len(form.question)} characters; at most {service.settings.max_total_chars}"
            raise ApiError(400, said, code="string_above_max_length", param="prompt")
        return await answer(service, http, form)

    return routes


class CompletionForm:
    """An answer that is text alone."""

    def __init__(self, asked: CompletionRequest) -> None:
        self.asked = asked
        prompt = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        self._text = "".join(one for one in prompt if isinstance(one, str))
        self._ids = [one for one in prompt if isinstance(one, int)]
        self.question = self._text or str(self._ids)
        self._head = {"id": f"cmpl-{secrets.token_hex(12)}", "object": _OBJECT, "created": int(time.time())}
        self._chars = 0  # written so far, for the offsets of tokens

    def request(self, model: LoadedModel) -> Request:
        """The beginning of a document with this text, or just these ids."""
        self._head["model"] = model.ref
        if self._ids and max(self._ids) >= model.tokenizer.vocab_size:
            said = f"token {max(self._ids)} is beyond the vocabulary of {model.tokenizer.vocab_size}"
            raise ApiError(400, said, code="invalid_value", param="prompt")
        prompt = self._ids or [model.tokenizer.special("bos"), *model.tokenizer.encode(self._text)]
        most = self.asked.max_tokens or _TOKENS
        return engine_request(self.asked, model, prompt, most, logprobs=self.asked.logprobs, tools=False)

    def opening(self, model: LoadedModel) -> list[dict[str, Any]]:
        """Nothing."""
        return []

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """Some text."""
        return self._body(delta.text, delta.logprobs, None)

    def closing(self, ended: Ended) -> list[dict[str, Any]]:
        """Why it ended, and the number of tokens if that is wanted."""
        last = self._body("", (), ended.reason) | {"nanochat": ended.facts()}
        options = self.asked.stream_options
        if options is not None and options.include_usage:
            return [last, {**self._head, "choices": [], "usage": ended.usage}]
        return [last]

    def whole(self, deltas: Sequence[Delta], ended: Ended) -> dict[str, Any]:
        """The answer in one."""
        found = [logprob for delta in deltas for logprob in delta.logprobs]
        body = self._body("".join(delta.text for delta in deltas), found, ended.reason)
        return {**body, "usage": ended.usage, "nanochat": ended.facts()}

    def _body(self, text: str, logprobs: Sequence[TokenLogprob], reason: str | None) -> dict[str, Any]:
        said = None if self.asked.logprobs is None or not (logprobs or reason) else self._logprobs(logprobs)
        choice = {"index": 0, "text": text, "logprobs": said, "finish_reason": reason}
        return {**self._head, "choices": [choice]}

    def _logprobs(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        offsets = []
        for one in logprobs:
            offsets.append(len(self._text) + self._chars)
            self._chars += len(_text(one.bytes))
        return {
            "tokens": [_text(one.bytes) for one in logprobs],
            "token_logprobs": [max(one.logprob, -9999.0) for one in logprobs],
            "top_logprobs": [
                {_text(data): max(logprob, -9999.0) for _, data, logprob in one.top} for one in logprobs
            ],
            "text_offset": offsets,
        }  # fmt: skip


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
