"""``nanochat node``: a pod of a Kubernetes indexed job whose pods build one stage together."""

from __future__ import annotations

import os
import signal
from uuid import UUID

from artifacts.errors import UsageError
from flows.cli.watch import TerminalObserver
from flows.dispatch.cluster import Cluster
from flows.dispatch.follow import follow
from flows.dispatch.stage_job import StageJob
from flows.launch import STOP
from flows.settings import prepare_prefect_environment

_RUN_ID = "PREFECT__FLOW_RUN_ID"


def node() -> int:
    """Take part in the stage that pod 0 builds: it carries out the flow run, every other pod does this."""
    run_id = os.environ.get(_RUN_ID)
    if not run_id or Cluster.read().node_rank == 0:
        raise UsageError(
            f"this is no pod of a job of several, after the first ({_RUN_ID} = {run_id or ''!r})",
            "a work pool's job template starts it; by hand: nanochat run on every node",
        )
    signal.signal(signal.SIGTERM, lambda *_: STOP.pull())  # the first process of a container ignores it
    builder, work = _job(run_id).opened()
    follow(builder, work, TerminalObserver())
    return 0


def _job(run_id: str) -> StageJob:
    """The parameter of a run of the flow ``stage``."""
    prepare_prefect_environment(quiet=True)
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        parameters = client.read_flow_run(UUID(run_id)).parameters
    if "job" not in parameters:
        raise UsageError(f"flow run {run_id} builds no stage", "several nodes are for the deployment stage")
    return StageJob.model_validate(parameters["job"])
