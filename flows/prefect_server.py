"""``python -m flows.prefect_server start ...``: ``prefect server start ...``, whose schedules start runs."""

from __future__ import annotations

import sys
from typing import Any

from prefect.cli import app
from prefect.server.database.orm_models import FlowRun


def let_schedules_make_runs() -> None:
    """Let Prefect 3.8.8 work with SQLAlchemy 2.1.

    Prefect inserts the runs of a schedule as rows that also hold their state, which is no column.
    SQLAlchemy 2.0 passed over it; 2.1 refuses the rows unless it is told to, so that no schedule ever
    started a run.
    """
    FlowRun.__dict__["state"].bulk_dml_setter = _pass_over


def _pass_over(_: type[FlowRun], row: dict[str, Any], __: object) -> None:
    del row["state"]


if __name__ == "__main__":
    let_schedules_make_runs()
    sys.argv.insert(1, "server")
    app()
