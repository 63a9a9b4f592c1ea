"""A scheduler that says what it is told to, models of it, and an app over them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI

from artifacts.errors import ResourceError, UsageError
from nanochat.engine.request import Delta, Event, Failed, Finish, Request, TokenLogprob, Usage
from nanochat.serve.app import create_app
from nanochat.serve.models import ModelEntry, ModelPool, Opened, UnknownModel
from nanochat.serve.settings import ServeSettings
from nanochat.tokenizer.tokenizer import Tokenizer

BYTES = Tokenizer(tuple(bytes([byte]) for byte in range(256)))
ANSWER = (Delta("text", "Hello"), Delta("text", " you"), Delta("text", "."))


class NoCatalog:
    """A catalog without artifacts."""

    def artifacts(self, limit: int) -> list[Any]:
        return []

    def artifact(self, ref: str) -> Any:
        raise ResourceError(f"no artifact {ref}")

    def page(self, ref: str, file: str) -> bytes:
        raise ResourceError(f"no artifact {ref}")


@dataclass
class Source:
    """Models by name; ``asked`` has what was looked up, ``opened`` what was checked out."""

    refs: Sequence[str] = ("sft/demo@v1", "base/demo@v1")
    asked: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    def models(self) -> list[ModelEntry]:
        return [ModelEntry(ref, ("latest",), 1_700_000_000, not ref.startswith("base")) for ref in self.refs]

    def resolve(self, ref: str) -> str:
        self.asked.append(ref)
        if "/" not in ref:
            raise UsageError(f"{ref!r} is no ref", "for example sft/demo@v1")
        full = ref if "@v" in ref else f"{ref.partition('@')[0]}@v1"
        if full not in self.refs:
            raise UnknownModel(f"no artifact {ref}")
        return full

    def folder(self, full: str) -> Path:
        self.opened.append(full)
        return Path(full)


class Generation:
    """An answer that a thread is writing."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


class ScriptedScheduler:
    """Says ``script``, a step every ``step_s``, to whoever asks; keeps what was asked."""

    def __init__(self, script: Sequence[Delta | Failed] = ANSWER, step_s: float = 0.0) -> None:
        self.script, self.step_s = script, step_s
        self.requests: list[Request] = []
        self.running = self.most = self.steps = self.cancelled = 0
        self.closed = False
        self._lock = threading.Lock()

    def submit(self, request: Request, listener: Callable[[Event], None]) -> Generation:
        if len(request.prompt) >= 1000:
            raise UsageError(f"a prompt of {len(request.prompt)} tokens cannot be continued")
        generation = Generation()
        with self._lock:
            self.requests.append(request)
            self.running += 1
            self.most = max(self.most, self.running)
        threading.Thread(target=self._write, args=(request, listener, generation), daemon=True).start()
        return generation

    def close(self, drain_s: float = 0) -> None:
        self.closed = True

    def stats(self) -> Any:
        return SimpleNamespace(prompt_tokens=1, cached_tokens=2, generated_tokens=3, steps=self.steps)

    def _write(self, request: Request, listener: Callable[[Event], None], generation: Generation) -> None:
        start, count, reason = time.monotonic(), 0, "stop"
        deadline = start + (request.deadline_s or 1e9)
        last: Event | None = None
        for said in self.script:
            if generation.cancelled.wait(self.step_s) or time.monotonic() > deadline:
                reason = "cancelled" if generation.cancelled.is_set() else "deadline"
                break
            if count == request.max_tokens:
                reason = "length"
                break
            if isinstance(said, Failed):
                last = said
                break
            self.steps += 1
            count += 1
            listener(said if request.logprobs is None else with_logprobs(said, request.logprobs))
        usage = Usage(len(request.prompt), count, cached_tokens=1)
        with self._lock:
            self.running -= 1
            self.cancelled += reason == "cancelled"
        listener(last or Finish(reason, usage, 0.0, 0.001, time.monotonic() - start))


def with_logprobs(delta: Delta, top: int) -> Delta:
    """The same as one token of log-probability -0.5, with alternatives."""
    data = delta.text.encode()
    one = TokenLogprob(1, data, -0.5, tuple((2 + n, b"x%d" % n, -1.0 - n) for n in range(top)))
    return Delta(delta.kind, delta.text, (one,))


class Setup:
    """An app, its models and the schedulers behind them."""

    def __init__(
        self, script: Sequence[Delta | Failed] = ANSWER, step_s: float = 0.0, *, default: str = "",
        source: Source | None = None, context_tokens: int = 1000, load_s: float = 0.0, **settings: Any,
    ) -> None:  # fmt: skip
        self.schedulers: list[ScriptedScheduler] = []
        self.source = source or Source()
        self.settings = ServeSettings(**{"requests_per_minute": 0, **settings})

        def opener(folder: Path, settings: ServeSettings) -> Opened:
            time.sleep(load_s)
            self.schedulers.append(ScriptedScheduler(script, step_s))
            return Opened(BYTES, self.schedulers[-1], context_tokens)

        self.pool = ModelPool(self.source, self.settings, default=default, opener=opener)
        self.app: FastAPI = create_app(NoCatalog(), self.pool, self.settings)

    @property
    def scheduler(self) -> ScriptedScheduler:
        return self.schedulers[0]


def ask(text: str = "Hi", **fields: Any) -> dict[str, Any]:
    """The JSON of a chat of one message."""
    return {"model": "sft/demo@v1", "messages": [{"role": "user", "content": text}], **fields}
