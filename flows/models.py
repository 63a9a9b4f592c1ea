"""The models of a store, for the server."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from artifacts.errors import UsageError
from artifacts.listing import listing
from artifacts.store import Store
from flows.cli.chat import CHAT_KINDS
from flows.settings import Settings
from nanochat.serve.models import BASE, ModelEntry


class StoreModels:
    """``nanochat.serve.models.ModelSource`` over one store. Safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def models(self) -> list[ModelEntry]:
        """Every model, newest first."""
        found = [item for item in listing(self._store.backend) if item.ref.kind in CHAT_KINDS]
        found.sort(key=lambda item: item.entry.created, reverse=True)
        return [
            ModelEntry(
                str(item.ref), item.aliases, int(datetime.fromisoformat(item.entry.created).timestamp()),
                chat=item.ref.kind != BASE,
            )
            for item in found
        ]  # fmt: skip

    def folder(self, ref: str) -> tuple[str, Path]:
        """The full ref of a model and a checkout of it, every byte verified the first time."""
        found, manifest = self._store.resolve(ref)
        if manifest.kind not in CHAT_KINDS:
            raise UsageError(f"{found} is no model", f"kinds that answer: {', '.join(CHAT_KINDS)}")
        return str(found), self._store.checkout(manifest, Settings().views)
