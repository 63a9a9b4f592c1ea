"""``nanochat run``: the pipeline on this machine, with one line a stage and a table at the end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flows.cli.options import Force, Json, Name, Overrides, Reuse, StoreUrl, Until
from flows.cli.output import print_table
from flows.cli.watch import JsonObserver, TerminalObserver
from flows.launch import STOP
from flows.observe import Observer
from flows.params import build_params
from flows.result import StageResult
from flows.run import Outcome, execute

CHAT_STAGES = ("rl", "sft", "mid", "base")


def run(
    preset: str,
    /,
    *,
    overrides: Overrides = None,
    name: Name = None,
    store: StoreUrl = None,
    until: Until = None,
    force: Force = None,
    reuse: Reuse = None,
    verify: bool = False,
    json: Json = False,
) -> int:
    """Train a model, or the part of it that is not built yet.

    Stages that are built already are found and not run again; a run that was stopped or killed goes
    on where it was. Ctrl-C saves a checkpoint and stops.

    Parameters
    ----------
    preset
        What to train; nanochat presets lists them.
    verify
        Also check every byte of the artifacts.
    """
    params = build_params(
        preset, overrides=overrides or [], name=name, store=store, until=until, force=force, reuse=reuse
    )
    observer: Observer = JsonObserver() if json else TerminalObserver()
    with interruptible():
        outcome = execute(params, observer)
    if verify:
        _verify(outcome, store)
    if not json:
        _show(outcome, store)
    return 0


def _show(outcome: Outcome, store: str | None) -> None:
    rows = [
        (
            result.stage,
            result.note or result.status,
            f"{result.seconds:.1f}",
            result.artifact,
            result.headline,
        )
        for result in outcome.results
    ]
    print_table(("stage", "status", "seconds", "artifact", "metric"), rows)
    if outcome.report:
        print(f"report: {outcome.report}")
    if model := chat_model(outcome.results):
        option = f" --store {store}" if store else ""
        print(f'chat:   nanochat chat {model.artifact}{option} -p "What is 37 + 45?"')


def chat_model(results: list[StageResult]) -> StageResult | None:
    """The furthest trained model among the results."""
    by_stage = {result.stage: result for result in results}
    return next((by_stage[stage] for stage in CHAT_STAGES if stage in by_stage), None)


def _verify(outcome: Outcome, url: str | None) -> None:
    from artifacts.errors import DataError
    from artifacts.store import Store

    store = Store.open(url or "")
    for result in outcome.results:
        if problems := store.verify(result.artifact):
            raise DataError(str(problems[0]), problems[0].hint)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C once: stages save and exit; twice: they are killed; a third time: so is this process."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        STOP.pull()
        if STOP.pulls == 1:
            os.write(2, b"\nstopping once a checkpoint is saved; Ctrl-C again stops at once\n")
        elif STOP.pulls > 2:
            os._exit(130)

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        sys.stdout.flush()
