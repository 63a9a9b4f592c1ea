"""Calling a flow in this process: against the server that is configured, or one that ends with the call."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flows.observe import OBSERVER, Observer
from flows.services.embedded_server import EmbeddedServer
from flows.settings import prefect_server_is_configured, prepare_prefect_environment


@contextmanager
def prefect_session(observer: Observer, *, quiet: bool) -> Iterator[None]:
    """Within, flows can be imported and called, and ``observer`` hears of their stages.

    ``quiet``: keep Prefect's own messages off the terminal.
    """
    prepare_prefect_environment(quiet=quiet)
    server = None if prefect_server_is_configured() else EmbeddedServer()
    if server:
        observer.started("prefect", "starting its server")
        os.environ["PREFECT_API_URL"] = server.api_url  # for Prefect's import, while the server starts
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    import flows.stage_task  # noqa: F401 -- what takes longest to import

    if server:
        del os.environ["PREFECT_API_URL"]
    # The heartbeat's thread sleeps in whole seconds and is waited for at the end of every flow.
    settings: dict[Any, Any] = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    if server:
        settings[PREFECT_API_URL] = server.api_url
        server.wait()
    token = OBSERVER.set(observer)
    try:
        with temporary_settings(settings):
            yield
    finally:
        OBSERVER.reset(token)
