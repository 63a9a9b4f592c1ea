"""``nanochat metrics``: what was measured in every run, asked in SQL."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from artifacts.catalog import Answer, Catalog
from artifacts.errors import UsageError
from artifacts.opening import open_place
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json, print_table

MAX_ROWS = 100  # of a table; JSON has them all
NEWEST = """
    SELECT artifact, key_metric AS metric, key_value AS value, seconds, created AS made
    FROM stages WHERE key_metric <> '' ORDER BY created DESC, artifact LIMIT 20
"""
EXAMPLE = "SELECT run, min(value) FROM metrics WHERE name = 'val_bpb' GROUP BY run"


def metrics(sql: str | None = None, /, *, store: StoreUrl = None, json: Json = False) -> int:
    """Show the newest results, or the answer to a question in SQL.

    Parameters
    ----------
    sql
        One SELECT over the views runs, stages, metrics, evals, artifacts and lineage.
    """
    catalog = Catalog(open_place(store or "", create=False))
    catalog.refresh()
    answer = catalog.query(NEWEST if sql is None else sql, limit=None if json else MAX_ROWS)
    if json:
        print_json(_objects(answer))
        return 0
    if sql is None and not answer.rows:
        print("no result yet: nanochat run demo makes some")
    else:
        print_table(answer.columns, [[_text(value) for value in row] for row in answer.rows])
    if answer.more:
        print(f"the first {MAX_ROWS} rows: add LIMIT and ORDER BY, or --json for all of them")
    if sql is None:
        print_table(("view", "columns"), [(name, " ".join(names)) for name, names in catalog.views().items()])
        print(f'ask in SQL: nanochat metrics "{EXAMPLE}"')
    return 0


def _objects(answer: Answer) -> list[dict[str, Any]]:
    """One JSON object a row. Raises UsageError if two columns have one name."""
    twice = [name for name, count in Counter(answer.columns).items() if count > 1]
    if twice:
        raise UsageError(f"two columns are called {twice[0]!r}", "give one another name: AS NAME")
    return [
        {name: _plain(value) for name, value in zip(answer.columns, row, strict=True)} for row in answer.rows
    ]


def _plain(value: Any) -> Any:
    """A value as JSON has it: times in ISO 8601, no NaN or Infinity."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


def _text(value: Any) -> str:
    """A value in one line of a table; what a terminal would obey is a space."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = " ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
    return "".join(letter if letter.isprintable() else " " for letter in text)
