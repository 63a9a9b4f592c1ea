"""The newest measurements of a stage that still runs, read from the end of its records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TAIL_BYTES = 1 << 15


def newest_values(records: Path) -> dict[str, Any]:
    """Record name -> its newest record, from the last lines of the file; torn lines are left out."""
    if not records.exists():
        return {}
    with records.open("rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - _TAIL_BYTES)
        file.seek(start)
        lines = file.read().decode("utf-8", errors="replace").split("\n")
    whole = lines[1 if start else 0 : -1]
    newest = {}
    for line in whole:
        try:
            record = json.loads(line)
            newest[record["name"]] = record
        except (ValueError, TypeError, KeyError):
            continue  # no record: a torn line, or something else's
    return newest


def progress_text(values: dict[str, Any]) -> str:
    """One short line: how far, loss, speed."""
    parts = []
    if progress := values.get("stage/progress"):
        parts.append(f"{100 * float(progress['value']):.0f} %")
    if loss := values.get("train/loss"):
        parts.append(f"step {loss['step']} loss {float(loss['value']):.3f}")
    if reward := values.get("rl/reward"):
        parts.append(f"step {reward['step']} reward {float(reward['value']):.3f}")
    if speed := values.get("train/tokens_per_second"):
        parts.append(f"{float(speed['value']):,.0f} tokens/s")
    return "  ".join(parts)
