"""``nanochat up`` and ``nanochat down``: everything that operating a pipeline takes, on this machine."""

from __future__ import annotations

import os
import sys

from flows.services.up import Places, folder
from flows.services.up import down as end
from flows.services.up import up as start


def up(
    *, host: str = "127.0.0.1", port: int = 4200, web_port: int = 4280, database: str | None = None
) -> int:
    """Start a Prefect server, two workers, and the web app; they stay until nanochat down.

    Parameters
    ----------
    host
        The address to listen on. Any but 127.0.0.1 lets other machines in.
    port
        The port of Prefect: its pages and its API.
    web_port
        The port of the web app.
    database
        Where Prefect keeps its runs, for example postgresql+asyncpg://user@host/prefect; default: an SQLite
        file in the home folder. A password belongs into ~/.pgpass, or the whole into the variable
        PREFECT_SERVER_DATABASE_CONNECTION_URL: others on this machine can read a command line.
    """
    addresses, is_new = start(Places(host, port, web_port), database, lambda name: _say(f"starting {name}"))
    if not is_new:
        _say("running already")
    for name, address in addresses.items():
        print(f"{name:<8}  {address}")
    if os.environ.get("PREFECT_API_URL") != addresses["API"]:
        print(f"\nto use it from a terminal:  export PREFECT_API_URL={addresses['API']}")
    print(f"logs: {folder()}; nanochat down stops everything")
    return 0


def down() -> int:
    """Stop what nanochat up started; a stage that is running saves a checkpoint first."""
    print("stopped" if end() else "nothing was running")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
