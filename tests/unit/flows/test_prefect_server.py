"""Rows of scheduled runs, with the SQLAlchemy that is installed."""

from __future__ import annotations

from uuid import uuid4

import pytest
import sqlalchemy
from prefect.server.database.orm_models import FlowRun
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateTable

from flows.prefect_server import let_schedules_make_runs


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_a_row_with_a_state_becomes_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FlowRun.__dict__["state"], "bulk_dml_setter", None)  # put back afterwards
    engine = sqlalchemy.create_engine("sqlite://")
    rows = [{"id": uuid4(), "flow_id": uuid4(), "name": "one", "state": {"type": "SCHEDULED"}}]
    let_schedules_make_runs()
    with Session(engine) as session:
        session.execute(CreateTable(FlowRun.__table__))
        session.execute(sqlalchemy.insert(FlowRun), rows)
        assert session.scalars(sqlalchemy.select(FlowRun.name)).all() == ["one"]
    assert rows[0]["state"] == {"type": "SCHEDULED"}, "the state is a row of its own, made next"
