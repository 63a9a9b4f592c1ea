"""``nanochat art ls``: a file of its own, because what it does not import it need not wait for."""

from __future__ import annotations

import gc
from typing import Any

from artifacts.listing import Listed, listing
from artifacts.opening import open_place
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json, print_table
from flows.headline import headline
from nanochat.report.formatting import size as size_text


def ls(what: str = "", /, *, store: StoreUrl = None, json: Json = False) -> int:
    """List artifacts.

    Parameters
    ----------
    what
        A kind (base), or kind/name (base/demo); default: everything.
    """
    place = open_place(store or "", create=False)
    kind, _, name = what.partition("/")
    found = listing(place, kind or None, name or None)
    if json:
        print_json(_described(store, found))
    elif not found:
        print(f"no artifact{f' of {what}' if what else ''} yet: nanochat run demo makes some")
    else:
        print_table(
            ("artifact", "aliases", "digest", "size", "metric", "made"),
            [
                (str(item.ref), " ".join(item.aliases), item.entry.digest[:12], size_text(item.entry.bytes),
                 headline({item.entry.key_metric: item.entry.value}, item.entry.key_metric),
                 item.entry.created)
                for item in found
            ],
        )  # fmt: skip
    gc.freeze()  # else Python looks through all of this once more before it ends
    return 0


def _described(url: str | None, found: list[Listed]) -> list[dict[str, Any]]:
    from flows.cli.art import described
    from flows.cli.opening import open_store

    store = open_store(url)
    manifests = zip(found, store.manifests([item.entry.pointer for item in found]), strict=True)
    return [described(item.ref, manifest, item.aliases) for item, manifest in manifests]
