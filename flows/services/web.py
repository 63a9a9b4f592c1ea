"""The web app of this machine's store: ``python -m flows.services.web HOST PORT``.

Only connections of this machine may use the models without a key. With ``uvicorn --factory
flows.services.web:create`` any ASGI server runs it, but it then does not drain at SIGTERM and logs nothing.
"""

from __future__ import annotations

import sys

from fastapi import FastAPI

from artifacts.errors import NanochatError
from artifacts.store import Store
from flows.catalog import StoreCatalog
from flows.models import StoreModels
from nanochat.serve.app import create_app
from nanochat.serve.models import ModelPool
from nanochat.serve.server import bind, serve
from nanochat.serve.settings import ServeSettings


def create() -> FastAPI:
    """The app over the store that $NANOCHAT_STORE names, which is started if it is not there yet."""
    store = Store.open()
    return app_of(store, StoreModels(store).default() or "", ServeSettings())


def app_of(store: Store, default: str, settings: ServeSettings) -> FastAPI:
    """The app over a store; ``default``: the model that requests mean that name none."""
    models = ModelPool(StoreModels(store), settings, default=default)
    return create_app(StoreCatalog(store), models, settings)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    listener, settings = bind(argv[0], int(argv[1])), ServeSettings()
    serve(create(), listener, settings, lambda: None)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except NanochatError as error:
        sys.exit(f"web: {error}")
