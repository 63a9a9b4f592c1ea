"""A real server on loopback over a real scheduler, whose model is small and random or repeats the user."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from fastapi import FastAPI
from openai import OpenAI
from safetensors.torch import save_file
from torch import Tensor

from nanochat.engine.scheduler import Scheduler
from nanochat.serve.app import create_app
from nanochat.serve.models import ModelPool, Opened
from nanochat.serve.settings import ServeSettings
from tests.unit.nanochat.engine.scripted import ScriptedCache
from tests.unit.nanochat.engine.tiny import tiny_gpt
from tests.unit.nanochat.serve.scripted import BYTES, NoCatalog, Source

CONTEXT = 1024


class EchoModel:
    """Says the last message of the user again, byte by byte; a step takes ``step_s``."""

    def __init__(self, step_s: float = 0.0, seq_len: int = CONTEXT) -> None:
        self.config = SimpleNamespace(seq_len=seq_len)
        self.device = torch.device("cpu")
        self._step_s = step_s

    def new_cache(self, rows: int, max_tokens: int) -> ScriptedCache:
        return ScriptedCache(rows)

    def prefill(self, tokens_NT: Tensor, cache: ScriptedCache, rows_N: Tensor) -> Tensor:
        for row, tokens in zip(rows_N.tolist(), tokens_NT.tolist(), strict=True):
            cache.tokens[row] += tokens
        return self._logits(cache, rows_N)

    def decode(self, tokens_N: Tensor, cache: ScriptedCache, rows_N: Tensor) -> Tensor:
        time.sleep(self._step_s)
        return self.prefill(tokens_N[:, None], cache, rows_N)

    def _logits(self, cache: ScriptedCache, rows_N: Tensor) -> Tensor:
        logits = torch.zeros(len(rows_N), BYTES.vocab_size)
        for i, row in enumerate(rows_N.tolist()):
            logits[i, self._next(cache.tokens[row])] = 50.0
        return logits

    def _next(self, tokens: list[int]) -> int:
        last = BYTES.special("assistant_end")
        if (start := BYTES.special("assistant_start")) not in tokens:
            return last
        begin, end = (_last(tokens, BYTES.special(name)) for name in ("user_start", "user_end"))
        told, said = tokens[begin + 1 : end], len(tokens) - 1 - _last(tokens, start)
        return told[said] if said < len(told) else last


def _last(tokens: list[int], token: int) -> int:
    return len(tokens) - 1 - tokens[::-1].index(token)


@dataclass
class Live:
    """A server that runs: its address, its models, and OpenAI's client for it."""

    url: str
    pool: ModelPool

    def openai(self, key: str = "none", **options: Any) -> OpenAI:
        return OpenAI(**{"base_url": f"{self.url}/v1", "api_key": key, "max_retries": 0, **options})

    def http(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)

    def stats(self) -> dict[str, float]:
        """Of the only model in memory."""
        (stats,) = self.pool.stats().values()
        return stats

    def is_empty(self) -> bool:
        """True if no slot is taken, of the gate and of the engine."""
        models = list(self.pool._loaded.values())
        return all(model.is_idle and model.scheduler.stats().running == 0 for model in models)

    def until_empty(self, within_s: float = 20.0) -> None:
        """Wait until no slot is taken."""
        start = time.monotonic()
        while not self.is_empty():
            assert time.monotonic() - start < within_s, self.stats()
            time.sleep(0.002)


class FolderSource(Source):
    """Models that are one folder."""

    root: Path

    def folder(self, full: str) -> Path:
        super().folder(full)
        return self.root


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random GPT over bytes, as stages write one."""
    folder = tmp_path_factory.mktemp("model")
    model = tiny_gpt(CONTEXT)
    (folder / "config.json").write_text(model.config.model_dump_json(), encoding="utf-8")
    save_file(model.state_dict(), folder / "model.safetensors")
    BYTES.save(folder)
    return folder


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Live]]:
    """``start(pool, wrap)``: an app over the pool, running; ended after the tests of the file."""
    ends: list[Callable[[], None]] = []

    def run(pool: ModelPool, wrap: Callable[[FastAPI], Any] = lambda app: app) -> Live:
        app = create_app(NoCatalog(), pool, pool.settings)
        listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        server = uvicorn.Server(uvicorn.Config(wrap(app), log_config=None, timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)

        def end() -> None:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()

        ends.append(end)
        return Live(f"http://127.0.0.1:{listener.getsockname()[1]}", pool)

    yield run
    for end in ends:
        end()


@pytest.fixture(scope="module")
def real(start: Callable[..., Live], model_folder: Path) -> Callable[..., Live]:
    """``real(slots=2)``: a server over the random model, opened as ``nanochat serve`` does."""

    def make(**settings: Any) -> Live:
        source = FolderSource()
        source.root = model_folder
        return start(ModelPool(source, ServeSettings(**{"requests_per_minute": 0, **settings})))

    return make


@pytest.fixture(scope="module")
def echo(start: Callable[..., Live]) -> Callable[..., Live]:
    """``echo(step_s=0.02, slots=2)``: a server over a real scheduler whose model repeats the user."""

    def make(step_s: float = 0.0, wrap: Callable[[FastAPI], Any] = lambda app: app, **settings: Any) -> Live:
        def opener(folder: Path, settings: ServeSettings) -> Opened:
            return Opened(BYTES, Scheduler(EchoModel(step_s), BYTES, slots=settings.slots), CONTEXT)  # type: ignore[arg-type]

        made = ServeSettings(**{"requests_per_minute": 0, **settings})
        return start(ModelPool(Source(), made, opener=opener), wrap)

    return make
