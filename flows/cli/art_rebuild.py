"""``nanochat art why`` and ``reproduce``: the recipe of an artifact, and its proof."""

from __future__ import annotations

import json as text
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from artifacts.atomic import disk_errors, make_directories
from artifacts.errors import NanochatError
from flows.cli.opening import open_store
from flows.cli.options import Json, Overrides, StoreUrl
from flows.cli.output import print_json, print_table
from flows.cli.run import interruptible
from flows.cli.watch import TerminalObserver
from flows.headline import headline
from flows.params import parse_overrides
from flows.reproduce import Rebuilt, Reproduction
from flows.settings import Settings
from flows.why import why as recipe_of


def why(ref: str, /, *, store: StoreUrl = None, json: Json = False) -> int:
    """Say in plain words how an artifact came to be, and how to make it again.

    Parameters
    ----------
    ref
        The artifact.
    """
    found, manifest = open_store(store).resolve(ref)
    facts = recipe_of(str(found), manifest)
    if json:
        print_json(facts)
        return 0
    print_table(("", str(found)), list(_sentences(facts)))
    if facts["config"]:
        print_table(
            ("setting", "value", "meaning"),
            [(item["name"], _value(item["value"]), item["meaning"]) for item in facts["config"]],
        )
    if facts["rebuild"]:
        print(f"make it again, with all that it was made from, and compare:\n{facts['rebuild']}")
    return 0


def _sentences(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    hardware, versions, settings = facts["hardware"], facts["versions"], facts["settings"]
    stage = f"stage {facts['stage']}"
    yield "made by", f"{stage}: {facts['does']}" if facts["does"] else stage
    yield "on", facts["made"]
    for item in facts["inputs"]:
        yield "from", f"{item['artifact']} as {item['role']} ({item['digest'][:12]})"
    yield "with the code", (facts["commit"] or "of no commit") + (" and changes" if facts["changed"] else "")
    if facts["command"]:
        yield "by the command", facts["command"]
    threads = f", {settings['threads']} threads" if settings.get("threads") else ""
    yield "on a machine", f"{hardware['cpu']}{threads} {' '.join(hardware['gpus'])}".rstrip()
    yield "with", ", ".join(f"{name} {versions[name]}" for name in ("python", "torch") if name in versions)
    if shown := headline(facts["metrics"], facts["key_metric"]):
        yield "it measured", shown


def _value(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else text.dumps(value)


def reproduce(
    ref: str,
    /,
    *,
    keep_inputs: Annotated[bool, Parameter(negative="")] = False,
    folder: Path | None = None,
    overrides: Overrides = None,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    """Build an artifact again in a fresh place, with all that it was made from, and compare digests.

    Parameters
    ----------
    ref
        The artifact.
    keep_inputs
        Rebuild only this artifact, from the inputs that the store has.
    folder
        Where to build, and keep what was built; default: a folder that is removed at the end.
    """
    opened = open_store(store)
    with _place(folder) as place, interruptible():
        task = Reproduction(opened, place, parse_overrides(overrides or []), keep_inputs)
        done = list(task.run(ref, TerminalObserver()))
    last = done[-1]
    if json:
        print_json({"equal": last.equal, "stages": [vars(item) for item in done]})
    else:
        _show(done)
    if not last.equal and not last.explains:
        raise NanochatError(
            f"{last.artifact} came out otherwise, and nothing that was recorded explains it",
            "a stage that is not deterministic, or damage: nanochat art verify",
        )
    return 0


def _show(done: list[Rebuilt]) -> None:
    print_table(
        ("artifact", "recorded", "rebuilt", "", "seconds"),
        [
            (item.artifact, item.recorded[:12], item.rebuilt[:12], "equal" if item.equal else "differs",
             f"{item.seconds:.1f}")
            for item in done
        ],
    )  # fmt: skip
    last = done[-1]
    if last.equal:
        print(f"{last.artifact} was reproduced: every digest is equal")
    elif last.explains:
        print_table(
            ("what is not as it was", "then", "now"),
            [(name, _short(pair["a"]), _short(pair["b"])) for name, pair in last.explains.items()],
        )
        print("equal digests are promised only where these are equal")


def _short(value: Any) -> str:
    shown = _value(value)
    return f"{shown[:57]}..." if len(shown) > 60 else shown


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    """The folder to build in; one that nobody named is removed in the end."""
    if folder is not None:
        make_directories(folder)
        yield folder.absolute()
        return
    home = Settings().home
    make_directories(home)
    with disk_errors(home):
        made = Path(tempfile.mkdtemp(prefix="reproduce-", dir=home))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
