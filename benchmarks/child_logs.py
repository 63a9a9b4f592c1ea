"""A stage that prints much and crashes, on the server of PREFECT_API_URL: what its log costs, what is kept.

    python benchmarks/child_logs.py LINES_PER_SECOND SECONDS

Prints one JSON document. ``in_write_share`` is the share of its time that the program spent in writes;
``alone_share`` the same with nobody reading, into /dev/null.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from chatty_stage import LAST_WORDS
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.sorting import LogSort
from prefect.context import FlowRunContext

from artifacts.errors import NanochatError
from flows import launch
from flows.publish import PrefectObserver

STAGE = "base"
MODULE = "benchmarks.chatty_stage"


@flow(persist_result=False)
def chatty(attempt: Path) -> UUID:
    with suppress(NanochatError):
        run_stage(attempt)
    context = FlowRunContext.get()
    assert context
    assert context.flow_run
    return context.flow_run.id


@task(persist_result=False, cache_policy=NO_CACHE)
def run_stage(attempt: Path) -> None:
    observer = PrefectObserver(STAGE, "logs", [])
    launch.run(
        launch.Job(STAGE, MODULE, attempt),
        log=lambda text, urgent: observer.log(STAGE, text, urgent),
        tick=lambda: observer.tick(STAGE, attempt / "records.jsonl"),
    )


def share(attempt: Path) -> dict[str, Any]:
    told = json.loads((attempt / "told.json").read_text())
    return told | {"share": told["in_write_s"] / told["seconds"]}


def on_server(flow_run: UUID) -> str:
    """The newest of what the server has of the run's log, once it does not change any more."""
    wanted = LogFilter.model_validate({"flow_run_id": {"any_": [flow_run]}})
    text = ""
    with get_client(sync_client=True) as client:
        while True:
            logs = client.read_logs(wanted, limit=20, sort=LogSort.TIMESTAMP_DESC)
            before, text = text, "\n".join(log.message for log in logs)
            if text == before:
                return text
            time.sleep(5)


def main(lines_per_second: int, seconds: int) -> None:
    with TemporaryDirectory() as folder:
        alone, attempt = Path(folder, "alone"), Path(folder, "attempt")
        for place in (alone, attempt):
            place.mkdir()
            job = {"lines_per_second": lines_per_second, "seconds": seconds}
            (place / "job.json").write_text(json.dumps(job))
        command = [sys.executable, "-u", "-m", MODULE, "--job", str(alone / "job.json")]
        subprocess.run(command, cwd=launch.PROJECT_ROOT, stdout=subprocess.DEVNULL)
        cpu = time.process_time()
        run = chatty(attempt)
        cpu = time.process_time() - cpu
        file, server = (attempt / "log.txt").read_text(), on_server(run)
        measured, baseline = share(attempt), share(alone)
    print(json.dumps({
        "lines": measured["lines"], "seconds": round(measured["seconds"], 2),
        "in_write_share": round(measured["share"], 5), "alone_share": round(baseline["share"], 5),
        "longest_write_ms": round(1000 * measured["longest_s"], 2),
        "flow_cpu_share": round(cpu / measured["seconds"], 4),
        "last_words": len(LAST_WORDS),
        "kept_in_file": sum(line in file for line in LAST_WORDS),
        "kept_on_server": sum(line in server for line in LAST_WORDS),
    }))  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
