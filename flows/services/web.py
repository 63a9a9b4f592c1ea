"""The web app of this machine's store: ``uvicorn --factory flows.services.web:create``."""

from __future__ import annotations

from fastapi import FastAPI

from artifacts.store import Store
from flows.catalog import StoreCatalog
from nanochat.serve.app import create_app


def create() -> FastAPI:
    """The app over the store that $NANOCHAT_STORE names, which is started if it is not there yet."""
    return create_app(StoreCatalog(Store.open()))
