"""Which tokenizer a ``nanochat tok`` command means, and which text."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from artifacts.atomic import disk_errors
from artifacts.errors import DataError, ResourceError, UsageError
from artifacts.listing import listing
from artifacts.store import Store
from flows.cli.chat import last_published
from flows.cli.opening import open_store
from flows.settings import Settings

if TYPE_CHECKING:
    from nanochat.tokenizer.tokenizer import Tokenizer

ELSE = "nanochat tok train makes one of your files, and --tokenizer PATH names one"

Ref = Annotated[
    str | None,
    Parameter(name="--ref", help="The tokenizer's artifact, or a model's; default: that of the last run."),
]
TokenizerPath = Annotated[
    Path | None,
    Parameter(name="--tokenizer", help="Instead of an artifact: a tokenizer.json, or the folder it is in."),
]


@dataclass(frozen=True)
class Opened:
    """A tokenizer, what to call it, and the artifact's files if it is of one."""

    name: str
    tokenizer: Tokenizer
    folder: Path | None = None


def open_tokenizer(ref: str | None, path: Path | None, store: str | None) -> Opened:
    """The tokenizer of an artifact or at a path; without both, that of the last run, or the newest."""
    if path is not None:
        if ref is not None:
            raise UsageError(f"{ref} and --tokenizer {path} exclude each other", "give one of them")
        return _at(path)
    if ref is not None:
        return of_artifact(open_store(store), ref)
    try:
        opened = open_store(store)
    except ResourceError as error:
        raise ResourceError(f"no tokenizer: {error.message}", f"{error.hint}; {ELSE}") from None
    return of_artifact(opened, default_ref(opened))


def of_artifact(store: Store, ref: str) -> Opened:
    """The tokenizer that an artifact holds; models hold theirs."""
    from nanochat.tokenizer.tokenizer import FILE_NAME

    found, manifest = store.resolve(ref)
    if FILE_NAME not in manifest.all_files():
        raise UsageError(f"{found} holds no tokenizer", "kinds that do: tokenizer, base, mid, sft, rl")
    folder = store.checkout(manifest, Settings().views)
    return Opened(str(found), _at(folder).tokenizer, folder)


def default_ref(store: Store) -> str:
    """The tokenizer that the newest run into this store published or found; else the newest one of it."""
    if (ref := last_published(store, Settings().runs, ("tokenizer",))) is not None:
        return ref
    found = listing(store.backend, "tokenizer")
    if not found:
        raise ResourceError(
            f"no tokenizer in {store.backend.url} yet", f"nanochat run demo trains one; {ELSE}"
        )
    return str(max(found, key=lambda item: item.made).ref)


def _at(path: Path) -> Opened:
    from nanochat.tokenizer.tokenizer import FILE_NAME, Tokenizer

    if not path.exists():
        raise ResourceError(f"{path}: no such file or folder", f"name a {FILE_NAME} or the folder it is in")
    with disk_errors(path):
        return Opened(str(path), Tokenizer.load(path))


def text_or_stdin(text: str | None) -> str:
    """``text``, or all of stdin. Raises DataError if that is no UTF-8."""
    if text is not None:
        return text
    data = sys.stdin.buffer.read()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"stdin is not UTF-8 at byte {error.start}", "tokens are made of UTF-8 text"
        ) from None
