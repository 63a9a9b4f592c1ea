"""What Prefect's UI shows of a stage: logs, progress, curves, metrics, lineage. All are views of records."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.utilities.urls import url_for

from flows.evaluation import MODEL_KINDS
from flows.observe import Observer
from flows.picture import curve_markdown
from flows.records_tail import newest_values
from flows.result import StageResult
from flows.settings import prefect_server_is_configured
from nanochat.records import read_records

PUBLISHED = "nanochat.model.published"
_EVERY_S = 60.0


class LogObserver(Observer):
    """Tells the logs of a task run: all that is shown of a part, of which a stage may have thousands."""

    def __init__(self) -> None:
        self._logger = get_run_logger()

    def started(self, stage: str, message: str) -> None:
        self._logger.info("%s: %s", stage, message)

    def log(self, stage: str, text: str, urgent: bool) -> None:
        self._logger.log(logging.WARNING if urgent else logging.INFO, "%s", text)

    def finished(self, result: StageResult) -> None:
        self._logger.info("%s: %s %s", result.stage, result.status, result.artifact or result.digest[:12])


class PrefectObserver(LogObserver):
    """Publishes one stage from within its task run. A failure to publish is logged, never raised."""

    def __init__(
        self, stage: str, name: str, parents: list[str], *, web_url: str = "",
        now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        super().__init__()
        self._key = re.sub(r"[^a-z0-9]+", "-", f"{name}-{stage}".lower())
        self._title = f"{stage} of {name}"
        self._parents = parents
        self._web_url = web_url
        self._now = now
        self._due = now() + _EVERY_S
        self._progress: UUID | None = None
        self._records: Path | None = None

    def started(self, stage: str, message: str) -> None:
        super().started(stage, message)
        if self._progress is None:
            self._try(lambda: self._set_progress(0.0))

    def tick(self, stage: str, records: Path) -> None:
        self._records = records
        if self._now() >= self._due:
            self._due = self._now() + _EVERY_S
            self._try(self._update)

    def ended(self, stage: str, records: Path) -> None:
        self._records = records
        self._try(self._update)

    def finished(self, result: StageResult) -> None:
        """The finished stage: its metrics as a table, and what it was made from as a picture."""
        super().finished(result)
        if result.status != "cached" or self._progress is not None:
            self._try(lambda: self._set_progress(1.0))
        said = linked(result.artifact, self._web_url) if result.artifact else None
        table = metrics_table(result)
        self._try(lambda: create_table_artifact(key=f"{self._key}-metrics", table=table, description=said))
        lineage = {
            "key": f"{self._key}-lineage", "description": f"inputs of {self._title}",
            "markdown": lineage_markdown(result, self._parents, self._web_url),
        }  # fmt: skip
        self._try(lambda: create_markdown_artifact(**lineage))

    def draw(self, records: Iterable[dict[str, Any]]) -> None:
        """Publish the curves under one key, replacing the last ones."""
        if (markdown := curve_markdown(records, self._title)) is not None:
            title = f"curves of {self._title}"
            create_markdown_artifact(key=f"{self._key}-loss", markdown=markdown, description=title)

    def _set_progress(self, fraction: float) -> None:
        percent = round(100 * fraction, 1)
        if self._progress is None:
            key = f"{self._key}-progress"
            made = create_progress_artifact(progress=percent, key=key, description=self._title)
            self._progress = made if isinstance(made, UUID) else None
        else:
            update_progress_artifact(self._progress, progress=percent)

    def _update(self) -> None:
        assert self._records is not None
        done = newest_values(self._records).get("stage/progress")
        if done is not None:
            self._set_progress(float(done["value"]))
        self.draw(read_records(self._records))

    def _try(self, publish: Callable[[], Any]) -> None:
        try:
            publish()
        except Exception as error:
            self._logger.warning("%s: not published: %s", self._title, error)


def metrics_table(result: StageResult) -> list[dict[str, Any]]:
    """One row a metric, after what was made and how."""
    rows: dict[str, Any] = {
        "artifact": result.artifact,
        "digest": result.digest[:12],
        "status": result.status,
    }
    return [{"name": name, "value": value} for name, value in {**rows, **result.metrics}.items()]


def run_table(results: list[StageResult]) -> list[dict[str, Any]]:
    """One row a stage."""
    return [
        {
            "stage": result.stage, "status": result.status, "seconds": result.seconds,
            "artifact": result.artifact, "metric": result.headline,
        }
        for result in results
    ]  # fmt: skip


def lineage_markdown(result: StageResult, parents: list[str], web_url: str = "") -> str:
    """The stage's artifact and its parents: links, and a mermaid graph, which Prefect's UI draws."""
    child = result.artifact or result.digest[:12]
    edges = [f'  p{number}["{parent}"] --> child["{child}"]' for number, parent in enumerate(parents)]
    graph = "\n".join(["graph LR", *(edges or [f'  child["{child}"]'])])
    pages = " · ".join(linked(ref, web_url) for ref in (child, *parents) if "@v" in ref)
    links = f"\n{pages}\n" if web_url and pages else ""
    return f"`{child}` sha256 `{result.digest}`\n{links}\n```mermaid\n{graph}\n```\n"


def run_markdown(results: list[StageResult], report: Path | None, web_url: str) -> str:
    """What a run made, with a link to each artifact's page where there is a web app."""
    rows = [
        f"| {result.stage} | {result.status} | {linked(result.artifact, web_url)} | {result.headline} |"
        for result in results
    ]
    lines = ["| stage | status | artifact | result |", "|---|---|---|---|", *rows]
    return "\n".join([*lines, "", _report_line(results, report, web_url)])


def _report_line(results: list[StageResult], report: Path | None, web_url: str) -> str:
    made = next((result.artifact for result in results if result.stage == "report"), "")
    if not report:
        return "No report yet."
    if not web_url:
        return f"Report: `{report}`"
    return f"[Read the report]({web_url.rstrip('/')}/artifacts/{made}/{report.name})"


def linked(ref: str, web_url: str) -> str:
    """The ref, as a link to its page if there is one."""
    return f"[{ref}]({web_url.rstrip('/')}/artifacts/{ref})" if web_url and ref else ref


def publish_run(name: str, results: list[StageResult], report: Path | None, web_url: str = "") -> None:
    """What the whole run made, and where its report is. For use within the flow run."""
    key = re.sub(r"[^a-z0-9]+", "-", name.lower())
    text = run_markdown(results, report, web_url)
    try:
        create_table_artifact(key=f"{key}-run", table=run_table(results), description=f"report: {report}")
        links = f"what {name} made, with links"
        create_markdown_artifact(key=f"{key}-artifacts", markdown=text, description=links)
    except Exception as error:
        get_run_logger().warning("the run's table was not published: %s", error)


def announce(result: StageResult, store_url: str = "") -> None:
    """Tell a Prefect server of a new model, so that an automation can act on it; once, by what built it."""
    kind, name = result.artifact.partition("@")[0].partition("/")[::2]
    is_new = result.status == "ran" and result.note != "identical"
    if is_new and kind in MODEL_KINDS and prefect_server_is_configured():
        resource = {
            "prefect.resource.id": f"nanochat.model.{kind}.{name}",
            "prefect.resource.name": result.artifact,
        }
        payload = {"model": result.artifact, "digest": result.digest, "store": store_url}
        emit_event(PUBLISHED, resource, payload=payload)


def run_address() -> dict[str, str]:
    """The flow run that this is, for the provenance of what it makes; {} on a server that ends with it."""
    if not prefect_server_is_configured() or not (run := FlowRunContext.get()) or not run.flow_run:
        return {}
    url = url_for("flow-run", obj_id=run.flow_run.id)
    return {"flow_run": str(run.flow_run.id)} | ({"flow_run_url": url} if url else {})
