"""One run from parameters to report, with Prefect if something has to be built and without if not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from artifacts.atomic import write_file
from artifacts.errors import UsageError
from artifacts.paths import segment
from artifacts.store import Store
from flows.build import Builder
from flows.dag import until
from flows.dispatch.cluster import Cluster
from flows.dispatch.fan_out import fan_out_of
from flows.history import History
from flows.observe import Observer, Observers
from flows.params import PipelineParams
from flows.result import StageResult
from flows.services.prefect_session import prefect_session
from flows.settings import Settings, prefect_server_is_configured


@dataclass(frozen=True)
class Outcome:
    """What a run came to: a result a stage, and where the report was put (None: it was not built)."""

    results: list[StageResult]
    report: Path | None


def open_builder(params: PipelineParams, origin: Mapping[str, str] | None = None) -> Builder:
    """Resolve the configuration and open the store. Raises UsageError before anything is built.

    ``origin``: which run this is, for the provenance of what it makes.
    """
    from nanochat.config.pipeline import Resolution

    settings = Settings()
    resolution = Resolution(params.preset, params.set)
    return Builder(
        store=Store.open(params.store),
        settings=settings,
        configs=resolution.stages,
        name=segment(params.run_name, "name"),
        ranks=resolution.dials.nproc,
        overlap=resolution.dials.overlap,
        depth=resolution.dials.depth,
        forced=params.forced,
        reuse={stage: ref for stage, ref in params.reuse.items()},
        origin=origin or {},
    )


def execute(params: PipelineParams, observer: Observer, *, quiet: bool = True) -> Outcome:
    """Run the pipeline in this process. ``quiet``: keep Prefect's own messages off the terminal."""
    builder, cluster = open_builder(params), Cluster.read()
    _check_nodes(cluster, builder)
    if cluster.node_rank:
        from flows.dispatch.follow import follow_run

        return Outcome(follow_run(builder, until(params.until), observer), None)
    results = None if prefect_server_is_configured() else finished_results(builder, params)
    if results is None:
        fan_out_of(builder.settings.fan_out, builder.store)  # before Prefect is started
        results = _run_flow(params, observer, quiet)
    else:
        history = Observers(observer, History(builder.settings.runs, params))
        for result in results:
            history.finished(result)
    return Outcome(results, export_report(builder, results))


def finished_results(builder: Builder, params: PipelineParams) -> list[StageResult] | None:
    """The result of every stage if all of them are built, else None. Imports neither Prefect nor torch."""
    made: dict[str, StageResult] = {}
    for stage in until(params.until):
        inputs = {role: made[source] for role, source in stage.inputs.items()}
        result = builder.find(builder.work(stage, inputs))
        if result is None:
            return None
        made[stage.id] = result
    return list(made.values())


def export_report(builder: Builder, results: list[StageResult]) -> Path | None:
    """Put ``report.html`` at a path that stays the same for every run of this name."""
    for result in results:
        if result.stage == "report":
            page = (builder.checkout(result) / "report.html").read_bytes()
            path = builder.settings.reports / builder.name / "report.html"
            if not path.exists() or path.read_bytes() != page:
                write_file(path, page)
            return path
    return None


def _check_nodes(cluster: Cluster, builder: Builder) -> None:
    cluster.share(builder.ranks)
    if cluster.nodes > 1 and builder.forced:
        forced = ", ".join(sorted(builder.forced))
        raise UsageError(
            f"--force {forced} with {cluster.nodes} nodes, which see only what is built",
            "force it on one node, or build into another --store",
        )


def _run_flow(params: PipelineParams, observer: Observer, quiet: bool) -> list[StageResult]:
    with prefect_session(observer, quiet=quiet):
        from flows.pipeline import pipeline

        return [StageResult(**result) for result in pipeline(params)]
