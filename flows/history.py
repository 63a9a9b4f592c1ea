"""What was run on this machine: one JSON file a run, written as stages finish. Never part of the store."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artifacts.atomic import write_file
from artifacts.redact import redact_json
from flows.observe import Observer
from flows.params import PipelineParams
from flows.result import StageResult


class History(Observer):
    """Keeps the file of one run up to date."""

    def __init__(self, runs: Path, params: PipelineParams) -> None:
        started = datetime.now(UTC)
        self._path = runs / f"{started:%Y%m%dT%H%M%S.%f}-{params.run_name}.json"
        self._clock = time.monotonic()
        self._lock = threading.Lock()  # stages may end side by side
        self._run: dict[str, Any] = {
            "schema": 1, "name": params.run_name, "params": redact_json(params.model_dump(mode="json")),
            "started": started.isoformat(timespec="seconds"), "seconds": 0.0, "stages": [],
        }  # fmt: skip

    def finished(self, result: StageResult) -> None:
        with self._lock:
            self._run["stages"].append(result.line())
            self._run["seconds"] = round(time.monotonic() - self._clock, 3)
            write_file(self._path, json.dumps(self._run, indent=1))


def last_runs(runs: Path) -> list[dict[str, Any]]:
    """Every recorded run, the newest first."""
    paths = sorted(runs.glob("*.json"), reverse=True) if runs.is_dir() else []
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]
