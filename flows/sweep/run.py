"""A sweep from parameters to its page: what it builds, found without Prefect where all of it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from artifacts.atomic import write_file
from artifacts.errors import UsageError
from flows.build import Builder, Work
from flows.dag import Stage, stage_by_id, until
from flows.dispatch.cluster import Cluster
from flows.identity import stage_recipe
from flows.observe import Observer
from flows.result import StageResult
from flows.run import open_builder
from flows.services.prefect_session import prefect_session
from flows.settings import prefect_server_is_configured
from flows.sweep.params import Point, SweepParams, points_of
from nanochat.stages.sweep import SweepConfig

SHARED = until("tokenize")
BASE, EVALUATION = stage_by_id("base"), stage_by_id("eval-base")
SWEEP = Stage("sweep", "sweep", "report")


@dataclass(frozen=True)
class Plan:
    """What a sweep builds: ``SHARED`` once, ``stages`` for each point, and one artifact of all of them."""

    params: SweepParams
    builder: Builder
    points: list[Point]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of one point."""
        return (BASE, EVALUATION) if self.params.evaluate else (BASE,)

    @property
    def side_by_side(self) -> int:
        """How many points at a time. Cores and GPUs of one machine are one resource, as in the pipeline."""
        if self.builder.settings.pools and prefect_server_is_configured():
            return self.params.at_once
        return 2 if self.builder.overlap else 1

    def builder_of(self, point: Point) -> Builder:
        """Builds one point, under a name of its own."""
        name = f"{self.builder.name}-{point.role}"
        return replace(self.builder, configs=point.resolution.stages, name=name, depth=point.depth)

    def work(self, tokens: StageResult, made: Mapping[str, StageResult]) -> Work:
        """What the points say together. ``made``: every point, and ``eval-ROLE`` of those evaluated."""
        params, inputs = self.params, {"tokens": tokens, **made}
        config = SweepConfig(
            kind=params.kind, title=f"{params.run_name}: {params.kind}",
            budgets={point.role: point.budget for point in self.points if point.budget is not None},
        )  # fmt: skip
        recipe = stage_recipe(SWEEP, config, {role: result.digest for role, result in inputs.items()})
        return Work(SWEEP, config, inputs, f"{self.builder.name}-sweep", recipe)


@dataclass(frozen=True)
class SweepOutcome:
    """What a sweep came to: its artifact last among the results, the artifact's folder, and its page."""

    results: list[StageResult]
    folder: Path
    page: Path


def open_sweep(params: SweepParams, origin: Mapping[str, str] | None = None) -> Plan:
    """Resolve every point and open the store. Raises UsageError before anything is built."""
    points = points_of(params)
    shared = replace(open_builder(params.pipeline(), origin), depth=0)  # text and tokenizer are of no depth
    return Plan(params, shared, points)


def role_of(stage: Stage, point: Point) -> str:
    """The role of what ``stage`` makes of a point: ``d4``, ``eval-d4``."""
    return point.role if stage is BASE else f"eval-{point.role}"


def sources_of(stage: Stage, point: Point) -> dict[str, str]:
    """Role -> where it comes from: a stage of ``SHARED``, or the point's own model."""
    return {role: point.role if source == BASE.id else source for role, source in stage.inputs.items()}


def execute_sweep(params: SweepParams, observer: Observer, *, quiet: bool = True) -> SweepOutcome:
    """Run the sweep in this process. ``quiet``: keep Prefect's own messages off the terminal."""
    if Cluster.read().nodes > 1:
        raise UsageError("a sweep trains each model on one node", "unset NANOCHAT_NODES")
    plan = open_sweep(params)
    results = None if prefect_server_is_configured() else finished_sweep(plan)
    if results is None:
        with prefect_session(observer, quiet=quiet):
            from flows.sweep.flow import sweep

            results = [StageResult(**result) for result in sweep(params)]
    else:
        for result in results:
            observer.finished(result)
    folder = plan.builder.checkout(results[-1])
    return SweepOutcome(results, folder, export_page(plan.builder, folder))


def finished_sweep(plan: Plan) -> list[StageResult] | None:
    """Every result if all of them are built, else None. Imports neither Prefect nor torch."""
    made: dict[str, StageResult] = {}
    steps = [(plan.builder, stage, stage.id, dict(stage.inputs)) for stage in SHARED]
    for stage in plan.stages:
        for point in plan.points:
            steps.append((plan.builder_of(point), stage, role_of(stage, point), sources_of(stage, point)))
    for builder, stage, key, sources in steps:
        found = builder.find(builder.work(stage, {role: made[source] for role, source in sources.items()}))
        if found is None:
            return None
        made[key] = found
    shared = {stage.id for stage in SHARED}
    models = {key: result for key, result in made.items() if key not in shared}
    last = plan.builder.find(plan.work(made["tokenize"], models))
    return None if last is None else [*made.values(), last]


def export_page(builder: Builder, folder: Path) -> Path:
    """Put ``sweep.html`` at a path that stays the same for every sweep of this name."""
    page = (folder / "sweep.html").read_bytes()
    path = builder.settings.reports / f"{builder.name}-sweep" / "sweep.html"
    if not path.exists() or path.read_bytes() != page:
        write_file(path, page)
    return path
