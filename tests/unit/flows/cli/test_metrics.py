"""``nanochat metrics``: what a build leaves to be asked, how answers look, and how questions fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.backends import LocalBackend
from artifacts.errors import ResourceError
from artifacts.store import Store
from flows.build import Builder
from flows.cli.metrics import MAX_ROWS, _plain, _text
from flows.dag import Stage
from flows.observe import Observer

Cli = Callable[..., Any]


def build(builder: Builder, stage: Stage) -> Any:
    return builder.build(builder.work(stage, {}), Observer())


def document(cli: Cli, *arguments: str) -> Any:
    return json.loads(cli("metrics", *arguments, "--json").out)


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_without_sql_the_newest_results_and_the_views(cli: Cli, small_home: Path) -> None:
    said = cli("metrics").out
    for ref in ("base/demo@v1", "tokenizer/demo@v1", "tokenizer/demo@v2"):
        assert sum(line.split()[:3] == [ref, "loss", "1"] for line in said.splitlines()) == 1
    for view in ("runs", "stages", "metrics", "evals", "artifacts", "lineage"):
        assert any(line.split()[:1] == [view] for line in said.splitlines())
    assert 'ask in SQL: nanochat metrics "SELECT' in said


def test_json_has_one_object_a_row(cli: Cli, small_home: Path) -> None:
    assert {row["artifact"] for row in document(cli)} == {
        "base/demo@v1", "tokenizer/demo@v1", "tokenizer/demo@v2",
    }  # fmt: skip
    sql = "SELECT run, step, value FROM metrics WHERE artifact = 'base/demo@v1' ORDER BY step"
    assert document(cli, sql) == [{"run": "demo", "step": n, "value": 3.0 - n} for n in range(3)]
    newest = {"run": "demo", "newest": ["base/demo@v1", "tokenizer/demo@v2"]}
    assert document(cli, "SELECT run, newest FROM runs") == [newest]


def test_asking_writes_nothing_to_the_store(cli: Cli, small_home: Path) -> None:
    before = files(small_home / "store")
    cli("metrics")
    assert files(small_home / "store") == before


def test_an_empty_store_says_what_to_do(cli: Cli, home: Path) -> None:
    cli("metrics", rc=4)
    Store.open()
    assert "nanochat run demo" in cli("metrics").out
    assert document(cli) == []


def test_another_store_may_be_named(cli: Cli, small_home: Path, tmp_path: Path) -> None:
    Store.open(str(tmp_path / "other"))
    assert document(cli, "SELECT count(*) AS n FROM artifacts", "--store", str(tmp_path / "other")) == [
        {"n": 0}
    ]


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("SELECT valu FROM metrics", '"value"'), ("SELECT * FROM metricz", 'Did you mean "metrics"'),
        ("SELEC 1", "nanochat metrics lists the views"), ("DROP VIEW runs", "write one SELECT"),
        ("SELECT * FROM read_text('/etc/passwd')", "nanochat metrics"),
    ],
)  # fmt: skip
def test_a_wrong_question_is_one_line(sql: str, hint: str, cli: Cli, small_home: Path) -> None:
    ended = cli("metrics", sql, rc=2)
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert hint in ended.err


def test_two_columns_of_one_name_are_refused_as_json(cli: Cli, small_home: Path) -> None:
    assert "two columns are called 'a'" in cli("metrics", "SELECT 1 a, 2 a", "--json", rc=2).err
    cli("metrics", "SELECT 1 a, 2 a")


def test_a_long_answer_is_cut_for_people_only(cli: Cli, small_home: Path) -> None:
    sql = f"SELECT range AS number FROM range({MAX_ROWS + 1})"
    said = cli("metrics", sql).out
    assert f"the first {MAX_ROWS} rows" in said
    assert str(MAX_ROWS) not in said.split()[: said.split().index("the")]
    assert len(document(cli, sql)) == MAX_ROWS + 1
    assert "the first" not in cli("metrics", f"SELECT * FROM range({MAX_ROWS})").out


@given(st.text())
def test_no_value_controls_the_terminal(value: str) -> None:
    assert _text([value]).isprintable()
    assert len(_text(value)) == len(value)


def test_values_have_a_form_in_json(cli: Cli, small_home: Path) -> None:
    sql = """SELECT 'nan'::DOUBLE AS a, '-inf'::FLOAT AS b, 1.5::DECIMAL(3, 1) AS c, DATE '2026-01-02' AS d,
        TIMESTAMP '2026-01-02 03:04:05' AS e, {'k': [1, NULL]} AS f, 'x'::BLOB AS g,
        true AS h, 2::HUGEINT AS i"""
    (row,) = document(cli, sql)
    assert list(row.values()) == [
        "nan", "-inf", 1.5, "2026-01-02", "2026-01-02T03:04:05", {"k": [1, None]}, "b'x'", True, 2,
    ]  # fmt: skip
    json.dumps([_plain(float("inf"))], allow_nan=False)


def test_a_build_stores_its_records_and_a_hit_stores_nothing(
    make_builder: Callable[..., Builder], first: Stage, home: Path, cli: Cli
) -> None:
    made = build(make_builder(first={}), first)
    (path,) = (home / "store" / "metrics").rglob("*.parquet")
    assert path.stem == made.manifest
    before = files(home / "store")
    assert build(make_builder(first={}), first).status == "cached"
    assert files(home / "store") == before
    assert build(make_builder(first={}, forced={"first"}), first).note == "identical"
    assert [str(path) for path in (home / "store" / "metrics").rglob("*.parquet")] == [str(path)]


def test_metrics_that_cannot_be_written_lose_no_artifact(
    make_builder: Callable[..., Builder], first: Stage, cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_new = LocalBackend.put_new

    def full(self: LocalBackend, key: str, data: bytes) -> bool:
        if key.startswith("metrics/"):
            raise ResourceError("no space left")
        return put_new(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "put_new", full)
        with pytest.raises(ResourceError, match="no space left"):
            build(make_builder(first={}), first)
    assert build(make_builder(first={}), first).status == "cached"
    assert document(cli, "SELECT artifact, count(*) AS n FROM metrics GROUP BY 1") == [
        {"artifact": "tokenizer/demo@v1", "n": 3}
    ]
