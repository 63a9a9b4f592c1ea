"""``nanochat serve``: the web app and OpenAI's API over the models of a store."""

from __future__ import annotations

from artifacts.errors import ResourceError
from flows.cli.opening import open_store
from flows.cli.options import StoreUrl


def serve(
    ref: str | None = None, /, *, host: str = "127.0.0.1", port: int = 8000, store: StoreUrl = None
) -> int:
    """Answer in the browser and over OpenAI's API, until Ctrl-C or SIGTERM.

    Every model of the store can be asked for by its ref; it is loaded when it is. Limits, times and API
    keys are set by variables: NANOCHAT_API_KEYS, NANOCHAT_SERVE_SLOTS and others.

    Parameters
    ----------
    ref
        The model for requests that name none, for example sft/demo@v1; default: the furthest trained one
        of the last run, else the newest chat model of the store.
    host
        The address to listen on. Any that lets other machines in needs a key: NANOCHAT_API_KEYS.
    port
        The port; 0 takes a free one.
    """
    from flows.models import StoreModels
    from nanochat.serve.settings import ServeSettings, check_host

    settings = ServeSettings()
    check_host(host, settings)
    opened = open_store(store)
    models = StoreModels(opened)
    if not (wanted := ref or models.default()):
        raise ResourceError("the store has no model yet", "nanochat run demo trains one")
    found = models.resolve(wanted)

    from flows.services.web import app_of
    from nanochat.serve.server import address_of, bind
    from nanochat.serve.server import serve as run

    listener = bind(host, port)
    said = f"{address_of(listener)}  {found}"
    run(app_of(opened, found, settings), listener, settings, lambda: print(said, flush=True))
    return 0
