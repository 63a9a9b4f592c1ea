"""A sweep as a Prefect flow: text and tokenizer once, a model a point, and what they say together.

A point is a ``base`` stage like any other, so that a sweep that failed, was cut off or is extended by a
depth trains only what is missing.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from artifacts.errors import NanochatError
from flows.dag import Stage
from flows.dispatch.placement import check_dispatch
from flows.launch import STOP, Interrupted
from flows.observe import OBSERVER, Observer
from flows.publish import linked, run_address
from flows.result import StageResult
from flows.stage_task import build_task, shard_tasks, stage_task, stopping_children
from flows.sweep.params import SweepParams
from flows.sweep.run import SHARED, Plan, open_sweep, role_of, sources_of
from nanochat.report.sweep import findings, read_sweep, table

Futures = dict[str, PrefectFuture[Any]]


class Labelled(Observer):
    """Says of which point it is that a stage runs."""

    def __init__(self, observer: Observer, role: str) -> None:
        self._observer, self._role = observer, role

    def started(self, stage: str, message: str) -> None:
        self._observer.started(f"{stage} {self._role}", message)

    def log(self, stage: str, text: str, urgent: bool) -> None:
        self._observer.log(f"{stage} {self._role}", text, urgent)

    def tick(self, stage: str, records: Path) -> None:
        self._observer.tick(f"{stage} {self._role}", records)

    def ended(self, stage: str, records: Path) -> None:
        self._observer.ended(f"{stage} {self._role}", records)

    def finished(self, result: StageResult) -> None:
        self._observer.finished(result)


@flow(
    name="sweep",
    flow_run_name="{params.run_name}",
    task_runner=ThreadPoolTaskRunner[Any](max_workers=2),  # type: ignore[arg-type]  # invariant there
    persist_result=False,
)
def sweep(params: SweepParams) -> list[dict[str, Any]]:
    """Train a series of models and fit how their loss depends on size, tokens and compute.

    A model that fails does not end the others; a new run trains only what is missing.
    """
    plan = open_sweep(params, run_address())
    check_dispatch(plan.builder, [*SHARED, *plan.stages])
    with stopping_children():
        futures = _shared(plan)
    made: dict[str, StageResult] = {}
    failed: dict[str, Exception] = {}
    with ThreadPoolTaskRunner[Any](max_workers=plan.side_by_side) as runner, stopping_children():
        for stage in plan.stages:
            started = _started(plan, stage, futures, runner, without=failed)
            _end(started, made, failed)
            futures |= started
        _raise_for(failed, plan)
        work = plan.work(StageResult(**futures["tokenize"].result()), made)
        last = StageResult(**build_task(plan.builder, work).submit().result())
    _publish(plan, last, made)
    shared = [future.result() for key, future in futures.items() if key not in made]
    return [*shared, *(result.model_dump() for result in made.values()), last.model_dump()]


def _shared(plan: Plan) -> Futures:
    """What all points are trained on."""
    futures: Futures = {}
    for stage in SHARED:
        inputs = {role: futures[source] for role, source in stage.inputs.items()}
        parts = shard_tasks(plan.builder, stage, inputs) if stage.mapped else None
        futures[stage.id] = stage_task(plan.builder, stage).submit(inputs, parts)
        futures[stage.id].result()
    return futures


def _started(
    plan: Plan,
    stage: Stage,
    futures: Futures,
    runner: ThreadPoolTaskRunner[Any],
    without: Mapping[str, object],
) -> Futures:
    """One task a point, as many side by side as the runner has room for."""
    started: Futures = {}
    for point in plan.points:
        if point.role in without:
            continue
        inputs = {role: futures[source] for role, source in sources_of(stage, point).items()}
        task = stage_task(plan.builder_of(point), stage)
        token = OBSERVER.set(Labelled(OBSERVER.get(), point.role))  # a task takes its context along
        started[role_of(stage, point)] = runner.submit(task, {"inputs": inputs, "parts": None})
        OBSERVER.reset(token)
    return started


def _end(started: Futures, made: dict[str, StageResult], failed: dict[str, Exception]) -> None:
    """Wait for all of them, whatever becomes of each. Raises Interrupted if the run is stopped."""
    for role, future in started.items():
        try:
            made[role] = StageResult(**future.result())
        except Interrupted:
            raise
        except Exception as error:
            failed[role] = error
            get_run_logger().error("%s failed, the others go on: %s", role, error)
    STOP.check()


def _raise_for(failed: Mapping[str, Exception], plan: Plan) -> None:
    if failed:
        count = len(plan.points) * len(plan.stages)
        said = "; ".join(f"{role}: {error}" for role, error in failed.items())
        raise NanochatError(
            f"{len(failed)} of {count} failed: {said}",
            "the others are kept: the same sweep goes on from there",
        )


def _publish(plan: Plan, last: StageResult, made: Mapping[str, StageResult]) -> None:
    """The points as a table, and what was found with its picture. For use within the flow run."""
    folder, web_url = plan.builder.checkout(last), plan.builder.settings.web_url
    found = read_sweep(folder)
    columns, rows = table(found)
    lines = [dict(zip(columns, row, strict=True)) | {"artifact": made[row[0]].artifact} for row in rows]
    key = re.sub(r"[^a-z0-9]+", "-", f"{plan.builder.name}-sweep".lower())
    said = "\n".join(f"- {sentence}" for sentence in findings(found))
    text = f"{linked(last.artifact, web_url)}\n\n{said}\n\n{picture(folder / 'sweep.png')}"
    try:
        create_table_artifact(key=f"{key}-models", table=lines, description=linked(last.artifact, web_url))
        create_markdown_artifact(key=f"{key}-findings", markdown=text)
    except Exception as error:
        get_run_logger().warning("the sweep's table was not published: %s", error)


def picture(path: Path) -> str:
    """Markdown with a PNG inside."""
    return f"![{path.stem}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')})"
