"""The number that matters most of an artifact, as people read it."""

from __future__ import annotations

from collections.abc import Mapping


def headline(metrics: Mapping[str, float | int | str | None], key: str) -> str:
    """``val_bpb 1.92``: one metric as text; empty if it is not there."""
    value = metrics.get(key)
    if value is None:
        return ""
    return f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
