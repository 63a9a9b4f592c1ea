"""What a store holds that a catalog does not know yet: which versions, aliases and measurements there are.

Imports little: mostly nothing is new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.listing import Listed, listing

if TYPE_CHECKING:
    from artifacts.backends.base import Backend

_MAX_DAYS = 31  # one listing for each; beyond this, one of everything is cheaper
_METRICS = re.compile(r"metrics/(\d{4}-\d{2}-\d{2})/([0-9a-f]{64})\.parquet")


@dataclass(frozen=True)
class Known:
    """What a catalog has: versions (ref, manifest), aliases (ref, alias), manifests, which were measured."""

    versions: frozenset[tuple[str, str]] = frozenset()
    aliases: frozenset[tuple[str, str]] = frozenset()
    manifests: frozenset[str] = frozenset()
    measured: frozenset[str] = frozenset()
    newest_day: str = ""


@dataclass(frozen=True)
class News:
    """What to take over: new versions, every version with an alias, manifest -> day of new measurements."""

    versions: list[Listed]
    aliased: list[Listed]
    metrics: dict[str, str]
    is_another_store: bool
    is_anything: bool


def find_news(backend: Backend, known: Known) -> News:
    """List what is new. A store that lost a version is another store at the same place."""
    found = {(str(item.ref), item.entry.manifest): item for item in listing(backend)}
    if known.versions - found.keys():
        return News([], [], {}, is_another_store=True, is_anything=True)
    new = [item for key, item in found.items() if key not in known.versions]
    aliased = [item for item in found.values() if item.aliases]
    aliases = {(str(item.ref), alias) for item in aliased for alias in item.aliases}
    metrics = {}
    for folder in _folders(known.newest_day):
        for info in backend.list(f"{folder}/"):
            if (match := _METRICS.fullmatch(info.key)) and match[2] not in known.measured:
                metrics[match[2]] = match[1]
    is_anything = bool(new or metrics or aliases != known.aliases)
    return News(new, aliased, metrics, is_another_store=False, is_anything=is_anything)


def _folders(newest_day: str) -> Iterable[str]:
    """Where new measurements are: the days from the one before the newest known, up to tomorrow."""
    today = datetime.now(UTC).date()
    if not newest_day:
        return [layout.METRICS]
    first = min(date.fromisoformat(newest_day), today) - timedelta(days=1)
    count = (today - first).days + 2
    if count > _MAX_DAYS:
        return [layout.METRICS]
    return [f"{layout.METRICS}/{first + timedelta(days=number)}" for number in range(count)]
