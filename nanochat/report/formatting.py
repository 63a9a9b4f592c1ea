"""Numbers as people read them."""

from __future__ import annotations

SHARES = {"accuracy", "ended", "named"}
ABSENT = "not measured"


def number(name: str, value: float) -> str:
    """``61.2%`` for a share, ``1.832`` for anything else."""
    return f"{value:.1%}" if name in SHARES else f"{value:.3f}"


def interval(name: str, low: float | None, high: float | None) -> str:
    """``57.1 – 65.1%`` or ``0.412 – 0.440``; empty without an interval."""
    if low is None or high is None:
        return ""
    return f"{100 * low:.1f} – {high:.1%}" if name in SHARES else f"{low:.3f} – {high:.3f}"


def change(name: str, delta: float) -> str:
    """A signed difference; of shares in percentage points."""
    sign = "+" if delta > 0 else "−" if delta < 0 else "±"
    return f"{sign}{100 * abs(delta):.1f} pp" if name in SHARES else f"{sign}{abs(delta):.3f}"


def count(value: float) -> str:
    """``845``, ``12.3 K``, ``3.4 M``, ``1.2 B``."""
    for unit, letter in ((1e9, "B"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.1f} {letter}"
    return f"{value / 1000:.1f} K" if value >= 10_000 else f"{value:,.0f}"


def size(value: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
