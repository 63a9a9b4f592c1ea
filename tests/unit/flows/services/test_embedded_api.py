"""What the embedded server adds to Prefect's: how soon to ask again, and a database to begin with."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from flows.services import embedded_api


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("text", int(request.path_params["status"]), {"x-own": "kept"})


def test_only_an_answer_of_503_says_when_to_ask_again() -> None:
    app = embedded_api.soon_again(Starlette(routes=[Route("/{status}", _answer)]))

    async def ask(*paths: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            return [await client.get(path) for path in paths]

    locked, fine = asyncio.run(ask("/503", "/200"))
    assert 0 < float(locked.headers["retry-after"]) < 1
    assert "retry-after" not in fine.headers
    assert locked.text == fine.text == "text"
    assert locked.headers["x-own"] == fine.headers["x-own"] == "kept"


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    path = tmp_path / "empty.db"
    with sqlite3.connect(path) as database:
        database.execute("create table made_at_setup (x)")
    monkeypatch.setattr(embedded_api, "EMPTY_DATABASE", path)
    return path.read_bytes()


def _begin(path: Path) -> None:
    embedded_api.begin_database(SecretStr(f"sqlite+aiosqlite:///{path}"))


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


@pytest.mark.parametrize("url", [None, "postgresql+asyncpg://user@host/prefect", "sqlite+aiosqlite://"])
def test_other_databases_are_left_to_prefect(
    tmp_path: Path, empty: bytes, monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    embedded_api.begin_database(SecretStr(url) if url else None)
    assert set(tmp_path.iterdir()) == before


def test_without_a_set_up_prefect_makes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_api, "EMPTY_DATABASE", tmp_path / "absent.db")
    _begin(tmp_path / "prefect.db")
    assert not (tmp_path / "prefect.db").exists()
