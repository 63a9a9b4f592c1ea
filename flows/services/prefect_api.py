"""The app of every Prefect server that is started here: Prefect's own, with another way to use SQLite.

Its database begins as a copy of the empty one that set-up made, because making one takes 15 s. And whoever
writes waits until it is free. Prefect's transactions read first; one that wants to write when another has
written since is told "database is locked", the server answers with 503, and its client asks again after 2 s.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

from artifacts.atomic import create_file_exclusive, make_directories

EMPTY_DATABASE = Path(sys.prefix, "prefect", "prefect.db")


def create() -> FastAPI:
    """For ``uvicorn --factory``."""
    gc.set_threshold(50_000, 20, 100)  # of what an import makes, nearly all stays
    from prefect.server.api.server import create_app
    from prefect.server.database.dependencies import set_database_config
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if make_url(url).get_backend_name() == "sqlite":
        begin_database(url)
        set_database_config(QueuedWriters(url))
    return create_app()


class QueuedWriters(AioSqliteConfiguration):
    """SQLite whose transactions are to write from their beginning, so that one waits for another."""

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, with_for_update: bool = False
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """As every database of Prefect's, but always ``with_for_update``."""
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def begin_database(url: str) -> None:
    """Where an SQLite URL names a file that is not there yet, put a copy of the empty database there."""
    database = make_url(url).database
    if database and database != ":memory:" and EMPTY_DATABASE.exists():
        path = Path(database)
        # A log of another file would ruin this one.
        if not path.exists() and not Path(f"{path}-wal").exists():
            make_directories(path.parent)
            create_file_exclusive(path, EMPTY_DATABASE.read_bytes())
