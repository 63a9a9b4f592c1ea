"""The models a server answers with: found by ref, loaded when they are asked for, dropped when idle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from artifacts.errors import NanochatError, ResourceError, UsageError
from nanochat.serve.api.errors import RETRY_S, ApiError, busy
from nanochat.serve.gate import Gate
from nanochat.serve.settings import ServeSettings

if TYPE_CHECKING:
    from nanochat.engine.request import Event, Request
    from nanochat.tokenizer.tokenizer import Tokenizer

LOG = logging.getLogger("nanochat.serve")
BASE = "base"
_LOOK_S = 5.0


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be asked for. ``created``: seconds since 1970. ``chat``: it knows conversations."""

    ref: str
    aliases: tuple[str, ...]
    created: int
    chat: bool


class UnknownModel(ResourceError):
    """No model has this name."""


class ModelSource(Protocol):
    """Where models come from; whoever starts the server brings it along. Called from threads."""

    def models(self) -> list[ModelEntry]:
        """Every model, newest first."""

    def resolve(self, ref: str) -> str:
        """The full ref of a model; asked for every request.

        UsageError for what is no model, UnknownModel for none of that name, ResourceError if nobody can tell.
        """

    def folder(self, full: str) -> Path:
        """A folder of the files of a model, by its full ref."""


class Generation(Protocol):
    """An answer that is being written."""

    def cancel(self) -> None: ...


class Scheduler(Protocol):
    """What serving needs of ``nanochat.engine.scheduler.Scheduler``."""

    def submit(self, request: Request, listener: Callable[[Event], None]) -> Generation: ...
    def close(self, drain_s: float = 0) -> None: ...
    def stats(self) -> Any: ...


@dataclass(frozen=True)
class Opened:
    """A model in memory. ``context_tokens``: of a prompt and its answer together."""

    tokenizer: Tokenizer
    scheduler: Scheduler
    context_tokens: int


Open = Callable[[Path, ServeSettings], Opened]


def open_folder(folder: Path, settings: ServeSettings) -> Opened:
    """The model of a folder, ready to answer; on the GPU, where there is one."""
    from nanochat.engine.inference_model import InferenceModel
    from nanochat.engine.model_folder import open_model
    from nanochat.engine.scheduler import Scheduler
    from nanochat.train.setup import resolve_device

    model, tokenizer = open_model(folder, resolve_device())
    fast = InferenceModel(model, settings.weights)
    return Opened(tokenizer, Scheduler(fast, tokenizer, slots=settings.slots), model.config.seq_len)


class LoadedModel:
    """A model in memory, and who uses it."""

    def __init__(self, entry: ModelEntry, opened: Opened, settings: ServeSettings) -> None:
        self.ref, self.entry = entry.ref, entry
        self.tokenizer, self.scheduler = opened.tokenizer, opened.scheduler
        self.context_tokens = opened.context_tokens
        self.gate = Gate(settings.slots, settings.queue)
        self.users = 0
        self.last_used = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """True if nobody waits for it and it writes nothing."""
        return not self.users and not self.gate.inside

    def stats(self) -> dict[str, float]:
        """Totals since it was loaded, and what it does now."""
        stats = self.scheduler.stats()
        names = ("prompt_tokens", "cached_tokens", "generated_tokens", "steps")
        return {
            "slots": self.gate.slots, "running": self.gate.inside, "waiting": self.gate.waiting,
            **{name: getattr(stats, name) for name in names},
        }  # fmt: skip


class ModelPool:
    """The models of a source. For one event loop; loading happens in threads.

    ``default``: the ref that requests mean that name none.
    """

    def __init__(
        self, source: ModelSource, settings: ServeSettings | None = None, *,
        default: str = "", opener: Open = open_folder,
    ) -> None:  # fmt: skip
        self._source, self.default, self._open = source, default, opener
        self.settings = settings or ServeSettings()
        self._loading: dict[str, asyncio.Task[LoadedModel]] = {}
        self._loaded: dict[str, LoadedModel] = {}
        self._tokenizers: dict[str, Tokenizer] = {}

    async def entries(self) -> list[tuple[ModelEntry, bool]]:
        """Every model and whether it is in memory; the default first, then the newest."""
        found = await asyncio.to_thread(self._source.models)
        found.sort(key=lambda entry: entry.ref != self.default)
        return [(entry, entry.ref in self._loaded) for entry in found]

    @asynccontextmanager
    async def use(self, ref: str) -> AsyncIterator[LoadedModel]:
        """A model, loaded and kept while it is used. ApiError 404 for none, 429 if all others are busy."""
        full = await self.ref(ref)
        model = self._loaded.get(full) or await self._load(full)
        model.users += 1
        try:
            yield model
        finally:
            model.users -= 1
            model.last_used = time.monotonic()

    async def tokenizer(self, ref: str) -> Tokenizer:
        """A model's tokenizer, for which the model need not be loaded."""
        full = await self.ref(ref)
        if full in self._loaded:
            return self._loaded[full].tokenizer
        if full not in self._tokenizers:
            from nanochat.tokenizer.tokenizer import Tokenizer

            loaded = await asyncio.to_thread(Tokenizer.load, await self._folder(full))
            while len(self._tokenizers) >= self.settings.models:
                self._tokenizers.pop(next(iter(self._tokenizers)))
            self._tokenizers[full] = loaded
        return self._tokenizers[full]

    async def ref(self, ref: str) -> str:
        """What a ref means now, in full. ApiError 404 if it is no model, 503 if nobody can tell now."""
        ref = ref or self.default
        if not ref:
            raise ApiError(400, "no model is named", code="missing_required_parameter", param="model")
        try:
            return await asyncio.to_thread(self._source.resolve, ref)
        except (UsageError, UnknownModel) as error:
            raise ApiError(404, f"{error}"[:500], code="model_not_found", param="model") from None
        except ResourceError as error:
            raise _unavailable(error) from None

    def stats(self) -> dict[str, dict[str, float]]:
        """Ref -> numbers, of every model in memory."""
        return {ref: model.stats() for ref, model in self._loaded.items()}

    async def drop_idle(self) -> None:
        """Until it is cancelled: drop each model that nobody has asked for long."""
        while True:
            await asyncio.sleep(min(_LOOK_S, self.settings.idle_s / 2))
            for model in list(self._loaded.values()):
                if model.is_idle and time.monotonic() - model.last_used > self.settings.idle_s:
                    await self._drop(model)

    async def close(self) -> None:
        """Drop every model; answers that are being written are cut."""
        for model in list(self._loaded.values()):
            await self._drop(model, even_busy=True)

    async def _folder(self, full: str) -> Path:
        try:
            return await asyncio.to_thread(self._source.folder, full)
        except ResourceError as error:
            raise _unavailable(error) from None

    async def _load(self, ref: str) -> LoadedModel:
        """Once, however many ask; who goes away does not end the loading for the others."""
        if ref not in self._loading:
            self._loading[ref] = task = asyncio.create_task(self._make(ref))
            task.add_done_callback(lambda _: self._loading.pop(ref, None))
        return await asyncio.shield(self._loading[ref])

    async def _make(self, ref: str) -> LoadedModel:
        while len(self._loaded) + len(self._loading) > self.settings.models:
            idle = [model for model in self._loaded.values() if model.is_idle]
            if not idle:
                raise busy("all models in memory are busy", RETRY_S, "model_busy")
            await self._drop(min(idle, key=lambda model: model.last_used))
        entry = next(
            (entry for entry in await asyncio.to_thread(self._source.models) if entry.ref == ref),
            ModelEntry(ref, (), 0, chat=not ref.startswith(f"{BASE}/")),
        )
        try:
            opened = await asyncio.to_thread(self._open, await self._folder(ref), self.settings)
        except NanochatError as error:
            raise ApiError(500, f"{ref} cannot be loaded: {error}"[:500], code="model_broken") from None
        except (RuntimeError, MemoryError) as error:  # torch's, of memory mostly
            LOG.exception("%s cannot be loaded", ref)
            said = f"{ref} cannot be loaded; the server's log says why"
            raise ApiError(500, said, code="model_broken") from error
        self._loaded[ref] = model = LoadedModel(entry, opened, self.settings)
        return model

    async def _drop(self, model: LoadedModel, even_busy: bool = False) -> None:
        if self._loaded.get(model.ref) is not model or not (model.is_idle or even_busy):
            return  # while others were dropped it was too, or somebody came
        del self._loaded[model.ref]
        with suppress(Exception):  # it is gone for us however that ends
            await asyncio.to_thread(model.scheduler.close)


def _unavailable(error: ResourceError) -> ApiError:
    return busy(f"{error}"[:500], RETRY_S, "model_unavailable", 503)
