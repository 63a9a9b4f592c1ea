"""``nanochat doctor``: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

from artifacts.errors import NanochatError
from artifacts.provenance import hardware
from artifacts.store import Store
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json, print_table
from flows.settings import Settings, prefect_server_is_configured
from nanochat.report.formatting import size as size_text

_MIN_FREE_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``ok`` False: something will fail; ``hint`` says what to do."""

    name: str
    ok: bool
    found: str
    hint: str = ""


def doctor(*, store: StoreUrl = None, json: Json = False) -> int:
    """Check this machine. Exits 1 if something will not work."""
    checks = list(_checks(store))
    if json:
        print_json([asdict(check) for check in checks])
    else:
        rows = [(check.name, "ok" if check.ok else "PROBLEM", check.found, check.hint) for check in checks]
        print_table(("what", "", "found", "what to do"), rows)
    return 0 if all(check.ok for check in checks) else 1


def _checks(url: str | None) -> Iterator[Check]:
    settings = Settings()
    new = sys.version_info >= (3, 11)
    yield Check("python", new, platform.python_version(), "" if new else "use Python 3.11 or newer")
    for package in ("torch", "prefect", "pyarrow", "tiktoken"):
        yield _package(package)
    built = util.find_spec("rustbpe") is not None
    yield Check("rustbpe", built, "built" if built else "not built", "" if built else "make setup builds it")
    machine = hardware()
    yield Check("cpu", True, f"{machine.cpu}, {machine.cores} usable cores")
    yield Check("gpu", True, ", ".join(machine.gpus) or "none: everything runs on the CPU")
    yield _disk(settings.home)
    yield _guarded("store", lambda: _store(url or ""))
    server = prefect_server_is_configured()
    yield Check("prefect server", True, "configured" if server else "none: runs use an embedded one")


def _package(name: str) -> Check:
    try:
        return Check(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed", "make setup installs it")


def _disk(home: Path) -> Check:
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    writable = os.access(there, os.W_OK)
    hint = "" if writable else "make it writable, or set NANOCHAT_HOME"
    if free < _MIN_FREE_BYTES:
        hint = "free some space, or set NANOCHAT_HOME"
    return Check("home", writable and free >= _MIN_FREE_BYTES, f"{home}, {size_text(free)} free", hint)


def _store(url: str) -> str:
    store = Store.open(url, create=False)
    return f"{store.backend.url}, {len(store.names.version_keys())} artifacts"


def _guarded(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except NanochatError as error:
        fresh = "is not a store" in error.message
        return Check(name, fresh, error.message, "the first run makes it" if fresh else error.hint)
