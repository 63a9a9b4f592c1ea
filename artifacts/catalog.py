"""SQL over everything in a store: a DuckDB file on this machine, brought up to date before it is asked.

The file is only a cache. It is never changed in place: a refresh that finds something new builds the
next one beside it, and renames that, so readers need no lock and a killed refresh leaves no damage.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import disk_errors, make_directories
from artifacts.catalog_news import Known, News, find_news
from artifacts.catalog_schema import SCHEMA, VIEWS, statements
from artifacts.errors import ResourceError, UsageError
from artifacts.paths import home

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from artifacts.backends.base import Backend
    from artifacts.catalog_facts import Facts

_OFFLINE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_READING = """
    USE catalog;
    SET enable_external_access = false;
    SET lock_configuration = true;
"""


@dataclass(frozen=True)
class Answer:
    """What a query found; ``more``: there are further rows than were asked for."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool


class Catalog:
    """The catalog of one store on this machine."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        name = hashlib.sha256(backend.url.encode()).hexdigest()[:16]
        self.path = home() / "cache" / "catalog" / f"{name}.duckdb"

    def refresh(self, *, rebuild: bool = False) -> bool:
        """Take over what is new in the store; True if there was anything. One process at a time does.

        Raises DataError, and the catalog stays as it was, if something new is damaged.
        """
        with self._locked():
            known = None if rebuild else self._known()
            news = find_news(self._backend, known or Known())
            if news.is_another_store:
                known, news = None, find_news(self._backend, Known())
            if known is not None and not news.is_anything:
                return False
            self._build(news, known)
            return True

    def query(self, sql: str, parameters: Sequence[str] = (), *, limit: int | None = None) -> Answer:
        """The answer to one reading statement, ``parameters`` for its question marks.

        Raises UsageError, with DuckDB's hint, if it is wrong.
        """
        import duckdb

        _check_reads(sql)
        for attempt in (1, 2):
            try:
                with self._reader() as connection:
                    return _ask(connection, sql, parameters, limit)
            except duckdb.Error as error:
                if not _is_damage(error):
                    raise _wrong(error) from error
                if attempt == 2:
                    raise ResourceError(f"{self.path}: {_lines(error)[0]}", "check the disk") from error
            self.refresh(rebuild=True)
        raise AssertionError

    def views(self) -> dict[str, list[str]]:
        """The views and their columns."""
        found = self.query(
            "SELECT table_name, list(column_name ORDER BY ordinal_position) FROM information_schema.columns "
            "WHERE table_catalog = 'catalog' AND table_schema = 'main' GROUP BY table_name"
        )
        columns = dict(found.rows)
        return {name: columns[name] for name in VIEWS}

    @contextmanager
    def _reader(self) -> Iterator[DuckDBPyConnection]:
        """A connection that reads this file and nothing else: no other file, no network, no settings."""
        import duckdb

        config = _OFFLINE | {"temp_directory": ""}
        # An instance of its own for every reader: one that is shared would go on reading a replaced file.
        with duckdb.connect(":memory:", config=config) as connection:
            path = str(self.path).replace("'", "''")
            connection.execute(f"ATTACH '{path}' AS catalog (READ_ONLY)")
            connection.execute(_READING)
            yield connection

    def _known(self) -> Known | None:
        """What the catalog has; None if there is none, or it is damaged or of another program version."""
        import duckdb

        if not self.path.exists():
            return None
        try:
            with self._reader() as connection:
                if connection.execute("SELECT schema_number FROM stored.about").fetchone() != (SCHEMA,):
                    return None

                def rows(sql: str) -> frozenset[tuple[str, str]]:
                    return frozenset(connection.execute(sql).fetchall())

                def column(sql: str) -> frozenset[str]:
                    return frozenset(value for (value,) in connection.execute(sql).fetchall())

                newest = connection.execute(
                    "SELECT coalesce(max(day), '') FROM stored.measured WHERE day <= current_date::VARCHAR"
                ).fetchone()
                return Known(
                    rows("SELECT ref, manifest FROM stored.versions"),
                    rows("SELECT ref, alias FROM stored.aliases"),
                    column("SELECT manifest FROM stored.manifests"),
                    column("SELECT manifest FROM stored.measured"),
                    newest[0] if newest else "",
                )
        except duckdb.Error:
            return None

    def _build(self, news: News, known: Known | None) -> None:
        """Make the next catalog beside this one, and put it into its place."""
        import duckdb

        from artifacts.catalog_facts import read_facts, read_records
        from artifacts.store import Store

        store = Store(self._backend)
        new = self.path.with_suffix(".new")
        with disk_errors(new):
            for leftover in (new, Path(f"{new}.wal")):
                leftover.unlink(missing_ok=True)
            if known is not None:
                shutil.copyfile(self.path, new)
        try:
            with duckdb.connect(str(new), config=_OFFLINE) as connection:
                if known is None:
                    connection.execute(statements())
                    about = "INSERT INTO stored.about VALUES (?, ?)"
                    connection.execute(about, [SCHEMA, self._backend.url])
                facts = read_facts(store, news, known or Known())
                _insert_facts(connection, facts)
                known_measured = known.measured if known else frozenset()
                days = {key: day for key, day in facts.days.items() if key not in known_measured}
                measured = days | news.metrics
                _insert_records(connection, read_records(store, measured), measured)
        except duckdb.IOException as error:
            raise ResourceError(f"{new}: {_lines(error)[0]}", "free some space and run it again") from error
        with disk_errors(self.path):
            os.replace(new, self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.path.with_suffix(".lock")
        make_directories(path.parent)
        with disk_errors(path), path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _insert_facts(connection: DuckDBPyConnection, facts: Facts) -> None:
    connection.execute("DELETE FROM stored.aliases")
    for name in ("versions", "aliases", "manifests", "parents"):
        _insert(connection, name, getattr(facts, name))


def _insert_records(connection: DuckDBPyConnection, tables: Iterable[Any], measured: dict[str, str]) -> None:
    for table in tables:
        connection.from_arrow(table).insert_into("stored.records")
    _insert(connection, "measured", [{"manifest": key, "day": day} for key, day in measured.items()])


def _insert(connection: DuckDBPyConnection, name: str, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa

    if rows:
        connection.from_arrow(pa.Table.from_pylist(rows)).insert_into(f"stored.{name}")


def _check_reads(sql: str) -> None:
    """Refuse anything but one SELECT or EXPLAIN."""
    import duckdb

    try:
        sql.encode()
        found = duckdb.extract_statements(sql)
    except UnicodeEncodeError as error:
        raise UsageError(f"{ascii(sql)[:80]} is not UTF-8", "write one SELECT") from error
    except duckdb.Error as error:
        raise _wrong(error) from error
    reading = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if len(found) != 1 or found[0].type not in reading:
        text = " ".join(sql.split())[:80]
        raise UsageError(f"{text!r} is not one reading statement", "write one SELECT")


def _ask(connection: DuckDBPyConnection, sql: str, parameters: Sequence[str], limit: int | None) -> Answer:
    cursor = connection.execute(sql, list(parameters))
    columns = tuple(column[0] for column in cursor.description or ())
    if limit is None:
        return Answer(columns, cursor.fetchall(), False)
    rows = cursor.fetchmany(limit + 1)
    return Answer(columns, rows[:limit], len(rows) > limit)


def _is_damage(error: Exception) -> bool:
    """True if the file is to blame, not the statement; a wrong checksum is an ``Error`` of no kind."""
    import duckdb

    kinds = (
        duckdb.IOException,
        duckdb.InternalException,
        duckdb.FatalException,
        duckdb.SerializationException,
    )
    return type(error) is duckdb.Error or isinstance(error, kinds)


def _wrong(error: Exception) -> UsageError:
    """What DuckDB says about a statement, and its guess of what was meant."""
    lines = _lines(error)
    guesses = [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))]
    return UsageError(lines[0], guesses[0] if guesses else "nanochat metrics lists the views")


def _lines(error: Exception) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
