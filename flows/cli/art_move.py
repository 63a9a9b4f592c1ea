"""``nanochat art export``, ``import`` and ``diff``: artifacts on the way elsewhere, and side by side."""

from __future__ import annotations

import json as text
from pathlib import Path
from typing import Any

from artifacts.archive_export import export as write_archive
from artifacts.archive_import import checked
from artifacts.diff import SECTIONS
from artifacts.diff import diff as compare
from artifacts.errors import UsageError
from artifacts.store import Store
from flows.cli.opening import open_store
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json, print_table
from nanochat.report.formatting import size as size_text

_DIGESTS = ("code", "files")


def export(
    ref: str, file: Path, /, *, lineage: bool = True, store: StoreUrl = None, json: Json = False
) -> int:
    """Write an artifact, and all that it was made from, to one file.

    Parameters
    ----------
    ref
        The artifact.
    file
        Where to: a name that ends with .tar or .tar.gz; it must not exist.
    lineage
        With what it was made from; without, only a store that has all of that can import it.
    """
    opened = open_store(store)
    if file.exists():
        raise UsageError(f"{file} exists", "name a new file")
    index = write_archive(opened, ref, file, with_lineage=lineage)
    size = file.stat().st_size
    refs = [str(found) for found, _ in index.names]
    if json:
        print_json({"artifact": index.root, "file": str(file), "bytes": size, "holds": refs})
        return 0
    more = [found for found in refs if found != index.root]
    print(f"{index.root} is in {file}, {size_text(size)}" + (f", with {' '.join(more)}" if more else ""))
    return 0


def import_(file: Path, /, *, store: StoreUrl = None, json: Json = False) -> int:
    """Store the artifacts of a file that art export made, after checking every byte of it.

    Parameters
    ----------
    file
        The file; it may come from anywhere, but a later run takes what is imported for cached.
    """
    with checked(file) as found:
        made = found.put_into(Store.open(store or ""))
    if json:
        print_json({"artifact": str(made[0].ref), "imported": [
            {"was": str(item.was), "artifact": str(item.ref)} for item in made
        ]})  # fmt: skip
        return 0
    for item in made:
        print(f"{item.ref}" + (f" was {item.was}" if item.ref != item.was else ""))
    return 0


def diff(a: str, b: str, /, *, store: StoreUrl = None, json: Json = False) -> int:
    """Show what differs between two artifacts: config, inputs, code, metrics, provenance, files.

    Parameters
    ----------
    a
        An artifact.
    b
        Another one.
    """
    found = compare(open_store(store), a, b)
    if json:
        print_json(found)
        return 0
    left, right = found["a"]["ref"], found["b"]["ref"]
    rows = [
        (f"{section} {name}", _text(section, pair["a"]), _text(section, pair["b"]))
        for section in SECTIONS
        for name, pair in found[section].items()
    ]
    if not rows:
        print(f"{left} and {right} do not differ")
        return 0
    print_table(("", left, right), rows)
    return 0


def _text(section: str, value: Any) -> str:
    """A value for people: digests shortened, nothing as -."""
    if value is None:
        return "-"
    if section == "inputs":
        return f"{value['ref']} {value['digest'][:12]}"
    if isinstance(value, str):
        return value[:12] if section in _DIGESTS else value
    return text.dumps(value, ensure_ascii=False)
