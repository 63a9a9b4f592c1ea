"""How commands get at a store."""

from __future__ import annotations

from artifacts.store import Store


def open_store(url: str | None) -> Store:
    """The store that a reading command means; it is not created."""
    return Store.open(url or "", create=False)
