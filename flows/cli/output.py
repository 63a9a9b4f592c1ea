"""How commands print: JSON for programs, a table for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

_MOST_FOLDED_ROWS = 200  # rich takes a millisecond for each


def print_json(value: Any) -> None:
    """One JSON document on one line, whole even if another thread prints one at the same moment."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")  # print would write its end apart
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table that fits the terminal; plain text, a line a row, where there is none or the table is long."""
    rows = list(rows)
    if sys.stdout.isatty() and len(rows) <= _MOST_FOLDED_ROWS:
        _print_folded(columns, rows)
        return
    table = [[" ".join(cell.split()) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    head, *body = (f" {'   '.join(map(str.ljust, row, widths))}".rstrip() for row in table)
    print("\n".join(["", head, f" {'─' * (sum(widths) + 3 * len(widths) - 1)}", *body, ""]))


def _print_folded(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False, emoji=False).print(table)
