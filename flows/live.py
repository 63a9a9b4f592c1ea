"""What runs on this machine now, seen from the folders of attempts: records, heartbeats, nothing asked."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
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
    _forget(attempts, {stage.id for stage in found})
    return sorted(found, key=lambda stage: stage.started)


def curves_of(records: Iterable[dict[str, Any]]) -> list[Curve]:
    """The curves in records, in the order of ``CURVES``."""
    points: _Points = {}
    _add(points, records)
    return _curves(points)


_Points = dict[str, list[tuple[float, float]]]


def _add(points: _Points, records: Iterable[dict[str, Any]]) -> None:
    for record in records:
        name, step, value = (record.get(field) for field in ("name", "step", "value"))
        if name in CURVES and isinstance(step, int) and isinstance(value, int | float) and isfinite(value):
            points.setdefault(name, []).append((step, float(value)))


def _curves(points: _Points) -> list[Curve]:
    return [Curve(name, NAMES[name].unit, list(points[name])) for name in CURVES if name in points]


@dataclass
class _Read:
    """What was read of a file of records: the file, its first ``size`` bytes, and the points in them."""

    inode: int
    size: int = 0
    points: _Points = field(default_factory=dict)


_READ: dict[Path, _Read] = {}
_LOCK = threading.Lock()  # pages are made in threads


def _curves_so_far(path: Path) -> list[Curve]:
    """The curves of a file that grows: only what is new since the last call is read.

    A file that was replaced or has become shorter, as on a resume, is read from its start.
    """
    with _LOCK, suppress(FileNotFoundError), path.open("rb") as file:
        status = os.fstat(file.fileno())
        read = _READ.get(path)
        if read is None or read.inode != status.st_ino or read.size > status.st_size:
            read = _READ[path] = _Read(status.st_ino)
        file.seek(read.size)
        whole, end, _ = file.read().rpartition(b"\n")  # the line that is being written is for the next time
        _add(read.points, _records(whole))
        read.size += len(whole) + len(end)
        return _curves(read.points)
    return []


def _forget(attempts: Path, shown: set[str]) -> None:
    """Keep nothing of attempts in this folder that are not shown any more."""
    with _LOCK:
        for path in [path for path in _READ if path.parent.parent == attempts]:
            if path.parent.name not in shown:
                del _READ[path]


def _working(job: Path) -> Working:
    folder = job.parent
    stage = str(json.loads(job.read_text(encoding="utf-8"))["stage"])
    newest = newest_values(folder / "records.jsonl")
    share = newest.get("stage/progress", {}).get("value")
    return Working(
        id=folder.name, stage=stage, started=datetime.fromtimestamp(job.stat().st_mtime, UTC).isoformat(),
        progress=progress_text(newest), share=None if share is None else min(1.0, max(0.0, float(share))),
        curves=_curves_so_far(folder / "records.jsonl"),
    )  # fmt: skip


def _records(lines: bytes) -> list[dict[str, Any]]:
    """Those of the lines that are records."""
    found = []
    for line in lines.decode("utf-8", errors="replace").split("\n"):
        with suppress(ValueError):
            if isinstance(record := json.loads(line), dict):
                found.append(record)
    return found


def _last_sign(folder: Path) -> float:
    """When anything was written; 0 if nothing was."""
    times = [0.0]
    for name in _SIGNS_OF_LIFE:
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times)
