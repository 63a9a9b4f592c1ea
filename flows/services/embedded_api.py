"""What the embedded server serves: Prefect's own API, started faster and asked again sooner.

Its database begins as a copy of the empty one that set-up made, because making one takes 15 s. On
SQLite two writers at once cost one of them "database is locked", which Prefect answers with 503; its
client then waits 2 s, though the other writer was done in milliseconds. Retry-After makes that 0.2 s.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy.engine import make_url
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from artifacts.atomic import create_file_exclusive, make_directories

EMPTY_DATABASE = Path(sys.prefix, "prefect", "prefect.db")
_RETRY_AFTER_S = 0.2


def create() -> ASGIApp:
    """For ``uvicorn --factory``."""
    gc.set_threshold(50_000, 20, 100)  # of what an import makes, nearly all stays
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    begin_database(get_current_settings().server.database.connection_url)
    return soon_again(create_app())


def begin_database(connection_url: SecretStr | None) -> None:
    """Where the URL names an SQLite file that is not there yet, put a copy of the empty database there."""
    url = make_url(connection_url.get_secret_value() if connection_url else "sqlite://")
    if url.get_backend_name() == "sqlite" and url.database and EMPTY_DATABASE.exists():
        path = Path(url.database)
        if (
            not path.exists() and not Path(f"{path}-wal").exists()
        ):  # a log of another file would ruin this one
            make_directories(path.parent)
            create_file_exclusive(path, EMPTY_DATABASE.read_bytes())


def soon_again(app: ASGIApp) -> ASGIApp:
    """The same app; its answers with status 503 say ``Retry-After``."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 503:
                headers = [*message.get("headers", []), (b"retry-after", str(_RETRY_AFTER_S).encode())]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, send_with_header)

    return wrapped
