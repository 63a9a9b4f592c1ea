"""The stage programs of a finished run once more, without the pipeline: ready commands in a shell."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from flows import launch
from flows.build import Builder
from flows.dag import STAGES, Stage
from flows.params import PipelineParams
from flows.result import StageResult
from flows.run import finished_results, open_builder


class ByHand:
    """The programs of a run of ``preset``, with the artifacts that the store of NANOCHAT_HOME has as inputs.

    Every stage runs once, also those that the pipeline maps over shards.
    """

    def __init__(self, preset: str) -> None:
        params = PipelineParams(preset=preset)
        self._builder: Builder = open_builder(params)
        results = finished_results(self._builder, params)
        assert results is not None, f"{preset} has to be built first"
        self.at_once = 2 if self._builder.overlap else 1
        self._made: Mapping[str, StageResult] = {result.stage: result for result in results}

    def run(self, folder: Path, at_once: int) -> None:
        """All of them, each as soon as those before it have made its inputs, ``at_once`` side by side."""
        jobs = {stage.id: self._prepared(stage, folder / stage.id) for stage in STAGES}
        done: dict[str, Future[None]] = {}
        with ThreadPoolExecutor(at_once) as pool:
            for stage in STAGES:
                before = [done[source] for source in stage.inputs.values()]
                done[stage.id] = pool.submit(self._run, jobs[stage.id], before)
            for future in done.values():
                future.result()

    def _prepared(self, stage: Stage, attempt: Path) -> launch.Job:
        (attempt / "output").mkdir(parents=True)
        inputs = {role: self._builder.checkout(self._made[made]) for role, made in stage.inputs.items()}
        job = {
            "schema": 1, "stage": stage.id,
            "config": self._builder.configs[stage.id].model_dump(mode="json"),
            "inputs": {role: str(view) for role, view in inputs.items()},
            "output": str(attempt / "output"), "attempt": str(attempt),
        }  # fmt: skip
        (attempt / "job.json").write_text(json.dumps(job))
        ranks, overlap = self._builder.ranks, self._builder.overlap
        return launch.Job(stage.id, stage.module, attempt, stage.torchrun, ranks, overlap)

    def _run(self, job: launch.Job, before: list[Future[None]]) -> None:
        for future in before:
            future.result()
        command = launch.command(job)
        typed = command[command.index(sys.executable, 1) :]  # without the pipeline's wrapper
        with job.log.open("wb") as log:
            subprocess.run(typed, env=launch.environment(job), stdout=log, stderr=log, check=True)
        assert (job.attempt / "summary.json").exists(), job.log
