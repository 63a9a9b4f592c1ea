"""The pipeline as a Prefect flow: one task a stage, in the order of ``flows/dag.py``.

The same code runs with no server, against one, and under a worker. Prefect shows what happens; what is
built is decided by the store alone (``flows/build.py``).
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows.dag import until
from flows.dispatch.mapped import workers
from flows.dispatch.placement import check_dispatch
from flows.history import History
from flows.observe import watched_by
from flows.params import PipelineParams
from flows.publish import publish_run, run_address
from flows.run import export_report, open_builder
from flows.stage_task import results_of, shard_tasks, stage_task, stopping_children


@flow(
    name="pipeline",
    flow_run_name="{params.run_name}",
    task_runner=ThreadPoolTaskRunner[Any](max_workers=2),  # type: ignore[arg-type]  # invariant there
    persist_result=False,
)
def pipeline(params: PipelineParams) -> list[dict[str, Any]]:
    """Train a small ChatGPT: shards, tokenizer, base, mid, SFT, RL, evaluations, report.

    Finished stages are found in the store and not run again, so a retry of this run resumes it.
    """
    builder = open_builder(params, run_address())
    watched_by(History(builder.settings.runs, params))
    check_dispatch(builder, until(params.until))
    made: dict[str, PrefectFuture[Any]] = {}
    with stopping_children(), workers(builder) as others:
        for stage in until(params.until):
            inputs = {role: made[source] for role, source in stage.inputs.items()}
            parts = shard_tasks(builder, stage, inputs, others) if stage.mapped else None
            fetched = others.downloads(stage) if others else None
            evaluation = others.evaluation(stage, inputs) if others else None
            made[stage.id] = evaluation or stage_task(builder, stage).submit(inputs, parts, fetched)
            # Cores and GPUs are one resource, and each stage wants all of it.
            if not builder.overlap and not (others and others.away and evaluation):
                made[stage.id].result()
        results = results_of(made)
    publish_run(params.run_name, results, export_report(builder, results), builder.settings.web_url)
    return [result.model_dump() for result in results]
