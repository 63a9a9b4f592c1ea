"""The models of a store, for the server."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from artifacts.errors import UsageError
from artifacts.listing import listing
from artifacts.names import UnknownRef
from artifacts.store import Store
from flows.cli.chat import CHAT_KINDS, last_published
from flows.settings import Settings
from nanochat.serve.models import BASE, ModelEntry, UnknownModel


class StoreModels:
    """``nanochat.serve.models.ModelSource`` over one store. Safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def models(self) -> list[ModelEntry]:
        """Every model, newest first."""
        found = [item for item in listing(self._store.backend) if item.ref.kind in CHAT_KINDS]
        found.sort(key=lambda item: item.made, reverse=True)
        return [
            ModelEntry(
                str(item.ref), item.aliases, int(datetime.fromisoformat(item.entry.created).timestamp()),
                chat=item.ref.kind != BASE,
            )
            for item in found
        ]  # fmt: skip

    def resolve(self, ref: str) -> str:
        """The full ref of a model. Reads no manifest and no file of it."""
        try:
            found = self._store.names.find(ref).ref
        except UnknownRef as error:
            raise UnknownModel(error.message, error.hint) from None
        if found.kind not in CHAT_KINDS:
            raise UsageError(f"{found} is no model", f"kinds that answer: {', '.join(CHAT_KINDS)}")
        return str(found)

    def folder(self, full: str) -> Path:
        """A checkout of a model, every byte verified the first time."""
        _, manifest = self._store.resolve(full)
        return self._store.checkout(manifest, Settings().views)

    def default(self) -> str | None:
        """The furthest trained model of this machine's last run; else the newest that knows conversations."""
        if last := last_published(self._store, Settings().runs, CHAT_KINDS):
            return last
        found = self.models()
        return next((entry.ref for entry in found if entry.chat), found[0].ref if found else None)
