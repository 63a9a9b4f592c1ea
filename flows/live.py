"""What runs on this machine now, seen from the folders of attempts: records, heartbeats, nothing asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from flows.records_tail import newest_values, progress_text
from nanochat.records import NAMES
from nanochat.serve.catalog import Curve, Working

SILENT_S = 60.0  # a stage that wrote nothing for so long is not shown
CURVES = ("train/loss", "val_loss", "val_bpb", "rl/reward", "train/tokens_per_second")
_SIGNS_OF_LIFE = ("records.jsonl", "log.txt", "heartbeat")


def working(attempts: Path, *, now: float | None = None) -> list[Working]:
    """The stages of which an attempt in this folder was written to just now, the oldest first."""
    moment = time.time() if now is None else now
    found = []
    for job in attempts.glob("*/job.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # one that ends while it is looked at
            if moment - _last_sign(job.parent) <= SILENT_S and not (job.parent / "summary.json").exists():
                found.append(_working(job))
    return sorted(found, key=lambda stage: stage.started)


def curves_of(records: Iterable[dict[str, Any]]) -> list[Curve]:
    """The curves in records, in the order of ``CURVES``."""
    points: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        name, step, value = (record.get(field) for field in ("name", "step", "value"))
        if name in CURVES and isinstance(step, int) and isinstance(value, int | float) and isfinite(value):
            points.setdefault(name, []).append((step, float(value)))
    return [Curve(name, NAMES[name].unit, points[name]) for name in CURVES if name in points]


def _working(job: Path) -> Working:
    folder = job.parent
    stage = str(json.loads(job.read_text(encoding="utf-8"))["stage"])
    newest = newest_values(folder / "records.jsonl")
    share = newest.get("stage/progress", {}).get("value")
    return Working(
        id=folder.name, stage=stage, started=datetime.fromtimestamp(job.stat().st_mtime, UTC).isoformat(),
        progress=progress_text(newest), share=None if share is None else min(1.0, max(0.0, float(share))),
        curves=curves_of(_whole_records(folder / "records.jsonl")),
    )  # fmt: skip


def _whole_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records so far; lines that are none, as one that is being written, are left out."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            if isinstance(record := json.loads(line), dict):
                yield record


def _last_sign(folder: Path) -> float:
    """When anything was written; 0 if nothing was."""
    times = [0.0]
    for name in _SIGNS_OF_LIFE:
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times)
