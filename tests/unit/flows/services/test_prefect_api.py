"""What a server that is started here does with SQLite: writers wait, and a database begins as a copy."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.exc import OperationalError

from flows.services import prefect_api
from flows.services.prefect_api import QueuedWriters

WRITERS = 4


async def _count(config: AioSqliteConfiguration) -> int:
    """Let several at once read a number and write the next one, as Prefect's server does; the number then."""
    engine = await config.engine()
    async with engine.begin() as connection:
        await connection.execute(sa.text("create table counter (n integer)"))
        await connection.execute(sa.text("insert into counter values (0)"))

    async def add_one() -> None:
        async with await config.session(engine) as session, config.begin_transaction(session):
            number = (await session.execute(sa.text("select n from counter"))).scalar_one()
            await asyncio.sleep(0.05)
            await session.execute(sa.text("update counter set n = :n"), {"n": number + 1})

    await asyncio.gather(*(add_one() for _ in range(WRITERS)))
    async with await config.session(engine) as session:
        return int((await session.execute(sa.text("select n from counter"))).scalar_one())


def test_writers_wait_for_each_other_where_prefects_own_are_refused(tmp_path: Path) -> None:
    ours, prefects = (f"sqlite+aiosqlite:///{tmp_path}/{name}.db" for name in ("ours", "prefects"))
    assert asyncio.run(_count(QueuedWriters(ours))) == WRITERS
    with pytest.raises(OperationalError, match="database is locked"):  # if not, ours are not needed any more
        asyncio.run(_count(AioSqliteConfiguration(prefects)))


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    path = tmp_path / "empty.db"
    with sqlite3.connect(path) as database:
        database.execute("create table made_at_setup (x)")
    monkeypatch.setattr(prefect_api, "EMPTY_DATABASE", path)
    return path.read_bytes()


def _begin(path: Path) -> None:
    prefect_api.begin_database(f"sqlite+aiosqlite:///{path}")


def test_a_first_database_is_a_copy_of_the_empty_one(tmp_path: Path, empty: bytes) -> None:
    path = tmp_path / "new" / "prefect.db"
    _begin(path)
    assert path.read_bytes() == empty


def test_a_database_or_what_is_left_of_one_stays_as_it_is(tmp_path: Path, empty: bytes) -> None:
    kept, log_only = tmp_path / "kept.db", tmp_path / "gone.db"
    kept.write_bytes(b"mine")
    Path(f"{log_only}-wal").write_bytes(b"pages")
    _begin(kept)
    _begin(log_only)
    assert kept.read_bytes() == b"mine"
    assert not log_only.exists()


@pytest.mark.parametrize("url", ["sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:"])
def test_a_database_in_memory_is_left_to_prefect(
    tmp_path: Path, empty: bytes, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    prefect_api.begin_database(url)
    assert set(tmp_path.iterdir()) == before


def test_without_a_set_up_prefect_makes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_api, "EMPTY_DATABASE", tmp_path / "absent.db")
    _begin(tmp_path / "prefect.db")
    assert not (tmp_path / "prefect.db").exists()
