"""``nanochat art``: look at, check, name, copy and clean up artifacts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from artifacts import lineage as walk
from artifacts import lineage_formats as formats
from artifacts.atomic import disk_errors, publish_directory, temporary_name
from artifacts.errors import DataError, UsageError
from artifacts.manifest import Manifest
from artifacts.pins import pin_of
from artifacts.ref import ArtifactRef
from artifacts.signing import verify_signature
from flows.cli.opening import open_store
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json, print_table
from flows.settings import Settings
from nanochat.report.formatting import size as size_text


def show(ref: str, /, *, store: StoreUrl = None, json: Json = False) -> int:
    """Show one artifact: recipe, files, metrics, aliases.

    Parameters
    ----------
    ref
        kind/name, kind/name@v3, kind/name@prod or kind/name@sha256:HEX.
    """
    opened = open_store(store)
    found, manifest = opened.resolve(ref)
    pin = pin_of(opened, found)
    every = opened.aliases(found.kind, found.name).items()
    aliases = [text for text, alias in every if alias.version == found.version]
    pinned = {"time": pin.time, "note": pin.note} if pin else None
    node = described(found, manifest, aliases) | {"pinned": pinned}
    if json:
        print_json(node)
        return 0
    provenance = manifest.provenance
    facts = {
        "artifact": str(found), "aliases": " ".join(node["aliases"]),
        **({"pinned": f"since {pin.time}{': ' if pin.note else ''}{pin.note}"} if pin else {}),
        "digest": manifest.digest,
        "fingerprint": manifest.fingerprint, "made": manifest.created, "by": provenance.command,
        "commit": f"{provenance.commit or '?'}{' with changes' if provenance.dirty else ''}",
        "parents": " ".join(parent.ref for parent in manifest.parents),
        **{f"metric {key}": str(value) for key, value in manifest.metrics.items()},
        **{f"config {key}": str(value) for key, value in manifest.recipe["config"].items()},
    }  # fmt: skip
    print_table(("", str(found)), list(facts.items()))
    print_table(
        ("file", "size", "sha256"),
        [(path, size_text(entry.size), entry.sha256[:12]) for path, entry in manifest.all_files().items()],
    )
    return 0


def lineage(
    ref: str,
    /,
    *,
    forward: bool = False,
    format: Literal["tree", "json", "mermaid", "dot", "html", "openlineage"] = "tree",
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Show what an artifact was made from.

    Parameters
    ----------
    ref
        The artifact.
    forward
        Show what was made from it instead.
    format
        How to print it: html is a page of its own, openlineage one event a line.
    """
    if json and format not in ("tree", "json"):
        raise UsageError(f"--json and --format {format} exclude each other", "give one of them")
    opened = open_store(store)
    graph = walk.descendants(opened, ref) if forward else walk.graph(opened, ref)
    if json or format == "json":
        print_json(graph)
    elif format == "html":
        print(formats.html(formats.detailed(opened, graph)), end="")
    elif format == "openlineage":
        print(formats.openlineage(formats.detailed(opened, graph), opened.backend.url), end="")
    else:
        draw = {"tree": formats.tree, "mermaid": formats.mermaid, "dot": formats.dot}[format]
        print(draw(graph), end="")
    return 0


def verify(
    ref: str | None = None,
    /,
    *,
    all: bool = False,
    deep: bool = True,
    signed_by: Path | None = None,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Check every byte of an artifact, or of the whole store. Exits 3 and names what is damaged.

    Parameters
    ----------
    ref
        The artifact; default: everything.
    all
        Everything, which is also the default.
    deep
        Read every byte; without, only look whether each file is there and has its size.
    signed_by
        A public key (PEM): the artifact has to carry a good signature by it, too.
    """
    if ref is not None and all:
        raise UsageError(f"{ref} and --all exclude each other", "give one of them")
    if signed_by is not None:
        from flows.cli.art_sign import check

        return check(open_store(store), ref, signed_by, deep=deep, json=json)
    problems = open_store(store).verify(ref, deep=deep)
    if json:
        print_json({"ok": not problems, "deep": deep, "problems": [vars(problem) for problem in problems]})
    elif not problems:
        print("intact" if deep else "every file is there and has its size; bytes were not read")
    for problem in problems[1:] if not json else []:
        print(problem, file=sys.stderr)
    if problems and not json:
        raise DataError(str(problems[0]), problems[0].hint)
    return DataError.exit_code if problems else 0


def alias(ref: str, name: str, /, *, store: StoreUrl = None, json: Json = False) -> int:
    """Point an alias to an artifact.

    Parameters
    ----------
    ref
        The artifact.
    name
        The alias, for example prod.
    """
    target = open_store(store).set_alias(ref, name)
    if json:
        print_json({"alias": f"{target.kind}/{target.name}@{name}", "artifact": str(target)})
    else:
        print(f"{target.kind}/{target.name}@{name} is {target}")
    return 0


def get(
    ref: str,
    folder: Path,
    /,
    *,
    signed_by: Path | None = None,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Copy an artifact's files into a new folder; every byte is verified.

    Parameters
    ----------
    ref
        The artifact.
    folder
        Where to; it must not exist.
    signed_by
        A public key (PEM): only if it signed the artifact, whose manifest and signature are added as
        artifact.json and signature.json, so that anyone can check the folder.
    """
    opened = open_store(store)
    found, manifest = opened.resolve(ref)
    if folder.exists():
        raise UsageError(f"{folder} exists", "name a new folder")
    proof = {} if signed_by is None else verify_signature(opened, found, signed_by, deep=False).files()
    view = opened.checkout(manifest, Settings().views)
    temporary = folder.absolute().parent / temporary_name()
    try:
        with disk_errors(folder):
            shutil.copytree(view, temporary, copy_function=shutil.copyfile)
            for name, data in proof.items():
                (temporary / name).write_bytes(data)
        publish_directory(temporary, folder.absolute())
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if json:
        print_json({"artifact": str(found), "folder": str(folder)})
    else:
        print(f"{found} is in {folder}" + (", with its signature" if proof else ""))
    return 0


def described(ref: ArtifactRef, manifest: Manifest, aliases: Sequence[str]) -> dict[str, Any]:
    """One artifact as ``ls`` and ``show`` print it with --json."""
    files = [{"path": path, "size": entry.size, "sha256": entry.sha256}
             for path, entry in manifest.all_files().items()]  # fmt: skip
    more = {"files": files, "aliases": list(aliases), "bytes": manifest.total_bytes}
    return walk.node(str(ref), manifest) | more
