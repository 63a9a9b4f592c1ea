"""From a request to its answer, whatever happens on the way: nobody's slot is lost.

The engine writes in a thread of its own; its listener hands each event to the event loop. A slot is given
back when the engine says that the answer has ended, not when the handler does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from artifacts.errors import NanochatError, ResourceError, UsageError
from nanochat.engine.request import Delta, Event, Failed, Finish, Request
from nanochat.serve.api.errors import RETRY_S, ApiError, busy, error_body
from nanochat.serve.api.event_stream import ClientGone, EventStream, SendText, unless_gone
from nanochat.serve.api.limits import RateLimit, client_of
from nanochat.serve.api.metrics import Metrics
from nanochat.serve.api.request_log import CLOSED
from nanochat.serve.api.schemas import Generation
from nanochat.serve.drain import Drain
from nanochat.serve.models import LoadedModel, ModelPool
from nanochat.serve.settings import ServeSettings

_GRACE_S = 30.0  # after the deadline of an answer, for its last bytes to be taken
_SHORTEST_S = 0.05


@dataclass(frozen=True)
class Service:
    """What every route that writes answers needs."""

    pool: ModelPool
    settings: ServeSettings
    metrics: Metrics
    rate: RateLimit
    drain: Drain


@dataclass(frozen=True)
class Ended:
    """How an answer ended; seconds count from when it had a model, waiting for a slot included."""

    finish: Finish
    model: LoadedModel
    waited_s: float

    @property
    def reason(self) -> str:
        """As OpenAI calls it: ``stop``, or ``length`` for whatever cut it."""
        return "stop" if self.finish.reason == "stop" else "length"

    @property
    def usage(self) -> dict[str, Any]:
        """OpenAI's count of tokens."""
        usage = self.finish.usage
        return {
            "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        }  # fmt: skip

    def facts(self, messages_dropped: int = 0) -> dict[str, Any]:
        """What we tell beyond OpenAI's fields."""
        finish, usage = self.finish, self.finish.usage
        writing_s = max(finish.total_s - finish.first_token_s, 1e-9)
        return {
            "context_tokens": self.model.context_tokens,
            "context_used": usage.prompt_tokens + usage.completion_tokens,
            "messages_dropped": messages_dropped, "cached_tokens": usage.cached_tokens,
            "tokens_per_second": round(max(usage.completion_tokens - 1, 0) / writing_s, 1),
            "waited_s": round(self.waited_s + finish.waited_s, 3),
            "first_token_s": round(self.waited_s + finish.first_token_s, 3),
            "ended": finish.reason,
        }  # fmt: skip


class Form(Protocol):
    """What makes an answer one of a chat, or one of a completion."""

    asked: Generation
    question: str

    def request(self, model: LoadedModel) -> Request:
        """What the engine is asked; in a thread."""

    def opening(self, model: LoadedModel) -> list[dict[str, Any]]:
        """The chunks of a stream before anything is written."""

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """The chunk of a stream for what a step adds."""

    def closing(self, ended: Ended) -> list[dict[str, Any]]:
        """The last chunks of a stream."""

    def whole(self, deltas: Sequence[Delta], ended: Ended) -> dict[str, Any]:
        """The answer in one."""


async def answer(service: Service, http: HttpRequest, form: Form) -> Response | EventStream:
    """The response to a request, streamed or not. ApiError where it is refused."""
    service.rate.take(client_of(http.scope))
    if service.drain.begun:
        raise busy("the server is ending", RETRY_S, "server_ending", status=503)
    running = Running(service, form, http.scope["state"]["log"])
    try:
        await unless_gone(http.receive, running.begin())
        if form.asked.stream:
            seconds = service.settings.request_s + _GRACE_S
            stream = EventStream(running.write, running.end, seconds)
            running = None
            return stream
        return JSONResponse(await unless_gone(http.receive, running.whole()))
    except ClientGone:
        return Response(status_code=CLOSED)
    finally:
        if running is not None:
            await running.end()


class Running:
    """One answer: ``begin`` it, then have it ``whole`` or ``write`` it; ``end`` it in any case."""

    def __init__(self, service: Service, form: Form, log: dict[str, Any]) -> None:
        self._service, self._form, self._log = service, form, log
        self._stack = AsyncExitStack()
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._waited_s = 0.0
        self._model: LoadedModel

    async def begin(self) -> None:
        """Get a model and a slot of it, and ask the engine."""
        self._stack.enter_context(self._service.drain.one())
        model = await self._stack.enter_async_context(self._service.pool.use(self._form.asked.model))
        self._model, self._log["model"] = model, model.ref
        try:
            request = await asyncio.to_thread(self._form.request, model)
        except NanochatError as error:
            code = "context_length_exceeded" if isinstance(error, UsageError) else "invalid_value"
            raise ApiError(400, str(error)[:500], code=code, param="messages") from None
        before = time.monotonic()
        await model.gate.enter(self._service.settings.queue_wait_s)
        self._waited_s = time.monotonic() - before
        left_s = max(_SHORTEST_S, self._service.settings.request_s - self._waited_s)
        loop = asyncio.get_running_loop()

        def listener(event: Event) -> None:  # in the engine's thread
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._arrived, event)

        try:
            generation = model.scheduler.submit(replace(request, deadline_s=left_s), listener)
        except BaseException as error:
            model.gate.leave()
            if isinstance(error, UsageError):
                raise ApiError(400, str(error)[:500], code="context_length_exceeded") from None
            if isinstance(error, ResourceError):  # it is full, or about to be dropped
                raise busy(error.message, RETRY_S, "model_busy") from None
            raise
        self._stack.callback(generation.cancel)

    async def whole(self) -> dict[str, Any]:
        """The body of the answer. ApiError 500 if the engine fails."""
        deltas: list[Delta] = []
        async for event in self._events():
            match event:
                case Delta():
                    deltas.append(event)
                case Finish():
                    self._note(event, deltas)
                    return self._form.whole(deltas, self._ended(event))
                case Failed(message):
                    raise self._failure(message)
        raise AssertionError("an answer without an end")

    async def write(self, send: SendText) -> None:
        """Stream the answer."""
        for chunk in self._form.opening(self._model):
            await send(json.dumps(chunk))
        deltas: list[Delta] = []
        async for event in self._events():
            match event:
                case Delta():
                    deltas.append(event)
                    await send(json.dumps(self._form.chunk(event)))
                case Finish():
                    self._note(event, deltas)
                    for chunk in self._form.closing(self._ended(event)):
                        await send(json.dumps(chunk))
                case Failed(message):
                    await send(json.dumps(error_body(self._failure(message))))
        await send("[DONE]")

    async def end(self) -> None:
        """Cancel what is still being written, and let the model go."""
        await self._stack.aclose()

    def _arrived(self, event: Event) -> None:
        if isinstance(event, Finish | Failed):
            self._model.gate.leave()
        self._queue.put_nowait(event)

    async def _events(self) -> AsyncIterator[Event]:
        while True:
            yield (event := await self._queue.get())
            if isinstance(event, Finish | Failed):
                return

    def _ended(self, finish: Finish) -> Ended:
        return Ended(finish, self._model, self._waited_s)

    def _failure(self, message: str) -> ApiError:
        self._log["error"] = message  # for us alone: it may name files, or what others wrote
        return ApiError(500, "the engine failed; its log says why", code="engine_failed")

    def _note(self, finish: Finish, deltas: Sequence[Delta]) -> None:
        usage = finish.usage
        self._log.update(
            prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, ended=finish.reason
        )
        if usage.completion_tokens:
            self._service.metrics.answer(self._model.ref, self._waited_s + finish.first_token_s)
        if self._service.settings.log_conversations:
            self._log.update(question=self._form.question, answer="".join(delta.text for delta in deltas))
