"""``nanochat art adopt``, ``pin``, ``unpin`` and ``gc``: what comes in from outside, stays, and goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from artifacts.gc import GcReport
from artifacts.retention import Rules
from artifacts.store import Store
from flows.cli.opening import open_store
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json, print_table
from flows.dag import STAGES
from flows.suggest import unknown
from nanochat.report.formatting import size as size_text

Only = Annotated[
    list[str] | None,
    Parameter(name="--only", negative="", help="Expire artifacts of this kind only (base); may be repeated."),
]


def adopt(
    name: str, folder: Path, /, *, force: bool = False, store: StoreUrl = None, json: Json = False
) -> int:
    """Store a copy of a folder as an artifact, after opening it as the stages would.

    Parameters
    ----------
    name
        kind/name: shards, tokenizer, tokens, base, mid, sft or rl, and a name of your choice.
    folder
        What a stage of that kind makes, for example a folder that art get wrote.
    force
        Store it again although it is there already: mends what is damaged.
    """
    from flows.adopt import adopt as adopt_folder

    ref, manifest = adopt_folder(Store.open(store or ""), name, folder, force=force)
    if json:
        print_json({"artifact": str(ref), "digest": manifest.digest, "bytes": manifest.total_bytes})
        return 0
    print(f"{ref} holds what is in {folder}, {size_text(manifest.total_bytes)}")
    stage = next(stage.id for stage in STAGES if stage.kind == ref.kind)
    print(f"build on it: nanochat run PRESET --reuse {stage}={ref}")
    return 0


def pin(ref: str, /, *, note: str = "", store: StoreUrl = None, json: Json = False) -> int:
    """Mark an artifact: gc keeps it, and all that it was made from, whatever its rules say.

    Parameters
    ----------
    ref
        The artifact.
    note
        Why; art show prints it.
    """
    made = open_store(store).pin(ref, note)
    if json:
        print_json({"artifact": str(made.ref), "pinned": {"time": made.time, "note": made.note}})
    else:
        print(f"{made.ref} is pinned")
    return 0


def unpin(ref: str, /, *, store: StoreUrl = None, json: Json = False) -> int:
    """Take the mark of an artifact away.

    Parameters
    ----------
    ref
        The artifact.
    """
    found = open_store(store).unpin(ref)
    if json:
        print_json({"artifact": str(found), "pinned": None})
    else:
        print(f"{found} is not pinned any more")
    return 0


def gc(
    *,
    keep_last: int | None = None,
    keep_days: float | None = None,
    only: Only = None,
    dry_run: bool = False,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Remove what nothing refers to any more. Without a rule, everything with a name, or cached, is kept.

    With a rule, a version expires unless a rule keeps it, or an alias, or a pin, or something that is
    kept was made from it, or it is the newest of its name. Its files go a day later, at the next gc.

    Parameters
    ----------
    keep_last
        Rule: keep so many of the newest versions of each name.
    keep_days
        Rule: keep what was stored in the last so many days.
    dry_run
        Only say what would go.
    """
    kinds = list(dict.fromkeys(stage.kind for stage in STAGES))
    for kind in only or ():
        if kind not in kinds:
            raise unknown("kind", kind, kinds)
    report = open_store(store).gc(dry_run=dry_run, rules=Rules(keep_last, keep_days, tuple(only or ())))
    if json:
        print_json({
            "dry_run": report.dry_run,
            "expired": [{"artifacts": list(item.refs), "bytes": item.bytes} for item in report.expired],
            "removed": list(report.removed), "bytes": report.bytes,
            "later": list(report.later), "later_bytes": report.later_bytes,
        })  # fmt: skip
    else:
        _print(report)
    return 0


def _print(report: GcReport) -> None:
    if report.expired:
        heading = "would expire" if report.dry_run else "expired"
        rows = [(" ".join(item.refs), size_text(item.bytes)) for item in report.expired]
        print_table((heading, "size"), rows)
    for key in report.removed:
        print(key)
    if not (report.expired or report.removed or report.later):
        print("nothing to remove")
        return
    removed, stay = ("would be removed", "would stay") if report.dry_run else ("were removed", "stay")
    print(f"{_objects(len(report.removed), report.bytes)} {removed}")
    if report.later:
        print(f"{_objects(len(report.later), report.later_bytes)} that nothing needs {stay} for a day:")
        print("a run may be using them; the next gc after that removes them")


def _objects(count: int, size: int) -> str:
    return f"{count} object{'' if count == 1 else 's'}, {size_text(size)}"
