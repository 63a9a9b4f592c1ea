"""Work goes where the hardware is: a stage is built here, or by a child run on another work pool."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from artifacts.errors import DataError
from artifacts.metrics import records_of
from flows.build import Builder, Work
from flows.dag import Stage
from flows.dispatch.child_run import check_pools, run_child
from flows.dispatch.pools import pool_for
from flows.dispatch.stage_job import StageJob
from flows.observe import Observer
from flows.publish import announce, run_address
from flows.result import StageResult
from flows.settings import prefect_server_is_configured


def check_dispatch(builder: Builder, stages: Iterable[Stage]) -> None:
    """Refuse what cannot work before anything is built. ResourceError, UsageError."""
    check_pools({pool for stage in stages if (pool := pool_of(builder, stage))}, builder.store)


def build(
    builder: Builder, work: Work, observer: Observer, parts: list[StageResult] | None = None
) -> StageResult:
    """What ``Builder.build`` does, wherever the stage belongs. The store says what came of it."""
    pool = None if parts is not None else pool_of(builder, work.stage)
    if pool is None:
        result = builder.build(work, observer, parts)
        announce(result, builder.store.backend.url)
        return result
    started = time.monotonic()
    if found := builder.find(work):
        return found
    before = builder.answer(work)
    job = StageJob.of(builder, work, run_address().get("flow_run", ""))
    run_child(pool, job, lambda text: observer.started(work.stage.id, text))
    made = builder.store.lookup(work.stage.id, work.fingerprint)
    if made is None:
        where = builder.store.backend.url
        raise DataError(
            f"stage {work.stage.id} was built on the work pool {pool}, but {where} lacks it",
            "give its workers the same store",
        )
    builder.store.check(made)
    with TemporaryDirectory() as folder:
        records = Path(folder) / "records.jsonl"
        lines = [json.dumps(record) + "\n" for record in records_of(builder.store, made)]
        records.write_text("".join(lines), encoding="utf-8")
        observer.ended(work.stage.id, records)
    ref = builder.store.name(made, work.name or "")
    return builder.made(work, made, ref, before, time.monotonic() - started)


def pool_of(builder: Builder, stage: Stage) -> str | None:
    """The work pool of a stage; None: this process. Without a server of its own there is nobody else."""
    pools = builder.settings.pools if prefect_server_is_configured() else {}
    return pool_for(stage, builder.ranks, pools)
