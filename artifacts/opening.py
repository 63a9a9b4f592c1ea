"""Whether a place is a store that this program knows. Imports little: a list should start at once."""

from __future__ import annotations

import os

from artifacts import layout
from artifacts.atomic import disk_errors
from artifacts.backends import Backend, open_backend
from artifacts.errors import ResourceError, UsageError
from artifacts.paths import home

SCHEMA = 1


def open_place(url: str = "", *, create: bool = True) -> Backend:
    """The backend of the store at a URL or folder; "" is $NANOCHAT_STORE, by default $NANOCHAT_HOME/store.

    A new store is started where there is none, if ``create``. Refuses the store of a newer program and a
    folder that holds other things.
    """
    backend = open_backend(url or os.environ.get("NANOCHAT_STORE") or str(home() / "store"))
    record = backend.get(layout.STORE)
    if record is None and _is_used(backend):  # maybe by another process that starts the store now
        record = backend.get(layout.STORE)
        if record is None and create:
            raise UsageError(f"{backend.url} holds other files and is no store", "choose an empty folder")
    if record is None:
        if not create:
            raise ResourceError(f"{backend.url} is not a store", "check --store, or start one with a run")
        backend.put_new(layout.STORE, layout.encode({"schema": SCHEMA}))
    elif (schema := layout.decode(layout.STORE, record).get("schema")) != SCHEMA:
        raise ResourceError(
            f"{backend.url} has store schema {schema}, this program knows {SCHEMA}",
            "upgrade nanochat-pipeline",
        )
    return backend


def _is_used(backend: Backend) -> bool:
    """True if there is anything but hidden files of a folder."""
    path = backend.local_path(layout.STORE)
    if path is None:
        return next(backend.list(""), None) is not None
    with disk_errors(path.parent):
        try:
            return any(not name.startswith(".") for name in os.listdir(path.parent))
        except FileNotFoundError:
            return False
