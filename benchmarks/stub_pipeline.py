"""The pipeline itself, but for its stages, which sleep instead of building: what is left is orchestration.

A deployment's flow is ``stub_pipeline.pipeline``. In a process of its own it prints what the shards of
``tokenize`` took, on the server that PREFECT_API_URL names or else embedded:

    python benchmarks/stub_pipeline.py NAME

STUB_SHARDS: how many shards ``tokenize`` is mapped over; STUB_SECONDS: how long a stage sleeps.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.build import Builder, Work
from flows.observe import Observer
from flows.params import PipelineParams
from flows.result import StageResult
from flows.run import execute

FOLDER = TemporaryDirectory(prefix="nanochat-stub-")
began: dict[str, tuple[float, float]] = {}  # stage -> wall and CPU seconds when it was to be built


def build(builder: Builder, work: Work, observer: Observer, parts: Any = None) -> StageResult:
    """Instead of ``Builder.build``."""
    began[work.stage.id] = time.perf_counter(), time.process_time()
    observer.started(work.stage.id, "running")
    time.sleep(seconds := float(os.environ.get("STUB_SECONDS", "0")))
    return StageResult(
        stage=work.stage.id, status="ran", artifact=f"{work.stage.kind}/{work.name}@v1" if work.name else "",
        digest=work.fingerprint, manifest=work.fingerprint, seconds=seconds, metrics={"tokens": 1},
    )  # fmt: skip


def shards() -> int:
    return int(os.environ.get("STUB_SHARDS", "2"))


def checkout(builder: Builder, result: StageResult) -> Path:
    """Instead of ``Builder.checkout``: every artifact holds a list of shards, and a report."""
    entries = [{"path": f"{number}.parquet", "sha256": f"{number:064}"} for number in range(shards())]
    (Path(FOLDER.name) / "manifest.json").write_text(json.dumps({"shards": entries}))
    (Path(FOLDER.name) / "report.html").write_text("")
    return Path(FOLDER.name)


Builder.build = build  # type: ignore[method-assign]
Builder.checkout = checkout  # type: ignore[method-assign]
Builder.find = lambda *_, **__: None  # type: ignore[method-assign,assignment,return-value]

if __name__ == "__main__":
    execute(PipelineParams(preset="tiny", name=sys.argv[1], until="tokenize"), Observer())
    wall, cpu = (end - start for start, end in zip(began["tokenizer"], began["tokenize"], strict=True))
    print(json.dumps({"tasks": shards(), "wall_s": wall, "flow_cpu_s": cpu}))
else:
    from flows.pipeline import pipeline as pipeline
