"""SQL over a store: what the views say, what a refresh reads, and that nothing can be damaged by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.backends.memory import MemoryBackend
from artifacts.catalog import Catalog
from artifacts.catalog_schema import VIEWS
from artifacts.errors import DataError, UsageError
from artifacts.metrics import publish_metrics, records_of
from artifacts.store import Store

HOSTILE = "'; DROP TABLE stored.records; -- \" [x] \u2603"
Measure = Callable[..., Any]


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store; the folder's name holds what SQL and globs would obey."""
    if request.param == "memory":
        return Store(MemoryBackend(tmp_path.name))
    return Store.open(str(tmp_path / "it's [a] store*"))


@pytest.fixture(autouse=True)
def _hostile_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "it's home"))


@pytest.fixture
def catalog(store: Store) -> Catalog:
    return Catalog(store.backend)


@pytest.fixture
def measure(make, store: Store) -> Measure:
    """Commit an artifact with records ``(step, value)`` of ``val_bpb``, and publish those."""

    def commit(stage: str = "base", *values: float, published: bool = True, **fields: Any) -> Any:
        records = [record(stage, step, value) for step, value in enumerate(values or (2.0,))]
        run = {"records.jsonl": "".join(json.dumps(item) + "\n" for item in records).encode()}
        payload = {"a": repr((stage, values, fields)).encode()}
        made = make.commit(payload, stage=stage, run=run, config={"of": repr((stage, values))}, **fields)
        if published:
            publish_metrics(store, made.manifest, made.ref, records_of(store, made.manifest))
        return made

    return commit


def record(stage: str, step: int, value: Any, **more: Any) -> dict[str, Any]:
    return {
        "v": 1, "kind": "metric", "stage": stage, "attempt": 1, "step": step, "tokens": 10 * step,
        "elapsed_s": 0.5 + step, "time": "2026-01-02T03:04:05.678+00:00", "name": "val_bpb", "value": value,
    } | more  # fmt: skip


def ask(catalog: Catalog, sql: str) -> list[tuple[Any, ...]]:
    catalog.refresh()
    return catalog.query(sql).rows


def test_an_empty_store_has_empty_views(catalog: Catalog) -> None:
    assert catalog.refresh()
    for view in VIEWS:
        assert catalog.query(f"SELECT * FROM {view}").rows == []
    assert list(catalog.views()) == list(VIEWS)


def test_every_view_tells_what_was_made(catalog: Catalog, measure: Measure, parent_of, store: Store) -> None:
    base = measure("base", 2.0, 1.5, metrics={"val_bpb": 1.5}, key_metric="val_bpb")
    parents = (parent_of(base, "model"),)
    judged = measure("eval-base", 0.25, kind="eval", name="demo-base", parents=parents)
    store.set_alias("base/demo", "prod")
    metrics = ask(catalog, "SELECT run, artifact, step, value, time::VARCHAR FROM metrics ORDER BY ALL")
    assert metrics == [
        ("demo", "base/demo@v1", 0, 2.0, "2026-01-02 03:04:05.678"),
        ("demo", "base/demo@v1", 1, 1.5, "2026-01-02 03:04:05.678"),
        ("demo", "eval/demo-base@v1", 0, 0.25, "2026-01-02 03:04:05.678"),
    ]
    assert ask(catalog, "SELECT run, artifacts, stages FROM runs") == [("demo", 2, ["base", "eval-base"])]
    assert ask(catalog, "SELECT child, parent, role, parent_manifest FROM lineage") == [
        ("eval/demo-base@v1", "base/demo@v1", "model", base.manifest.hex)
    ]
    facts = ask(catalog, "SELECT ref, kind, name, version, digest, bytes, aliases FROM artifacts ORDER BY 1")
    assert facts == [
        (ref, ref.split("/")[0], name, 1, made.manifest.digest, made.manifest.total_bytes, aliases)
        for ref, name, made, aliases in [
            ("base/demo@v1", "demo", base, ["latest", "prod"]),
            ("eval/demo-base@v1", "demo-base", judged, ["latest"]),
        ]
    ]
    assert ask(
        catalog, "SELECT stage, seconds, key_metric, key_value, config->>'of' FROM stages ORDER BY 1"
    ) == [
        ("base", 1.5, "val_bpb", 1.5, repr(("base", (2.0, 1.5)))),
        ("eval-base", 0.5, "", None, repr(("eval-base", (0.25,)))),
    ]


def test_evaluations_have_their_interval(catalog: Catalog, make, store: Store) -> None:
    made = make.commit(stage="eval-sft", kind="eval", name="demo-sft")
    more = {"kind": "eval", "n": 7, "ci_low": 0.1, "ci_high": 0.4, "split": "test", "task": HOSTILE}
    plain = record("eval-sft", 0, 1)
    publish_metrics(store, made.manifest, made.ref, [record("eval-sft", 0, 0.25, **more), plain])
    assert ask(catalog, "SELECT run, task, split, value, n, ci_low, ci_high FROM evals") == [
        ("demo", HOSTILE, "test", 0.25, 7, 0.1, 0.4)
    ]


def test_text_is_kept_as_it_is(catalog: Catalog, make, store: Store) -> None:
    made = make.commit()
    values = [HOSTILE, {"it's": [1, HOSTILE]}, True]
    publish_metrics(store, made.manifest, made.ref, [record("base", n, v) for n, v in enumerate(values)])
    rows = ask(catalog, "SELECT text, value FROM metrics ORDER BY step")
    assert [text for text, _ in rows] == [HOSTILE, json.dumps(values[1]), "true"]
    assert {value for _, value in rows} == {None}
    assert len(catalog.query("SELECT * FROM metrics WHERE name = '''; DROP TABLE x; --'").rows) == 0


def test_an_artifact_without_records_is_among_the_others(catalog: Catalog, make, measure: Measure) -> None:
    make.commit(stage="report")
    measure("base", 1.5)
    assert ask(catalog, "SELECT stage, seconds FROM stages ORDER BY 1") == [("base", 0.5), ("report", None)]
    assert ask(catalog, "SELECT artifact, value FROM metrics") == [("base/demo@v1", 1.5)]


def test_an_artifact_with_two_names_counts_for_both(catalog: Catalog, measure: Measure, store: Store) -> None:
    made = measure("base", 1.5)
    store.name(made.manifest, "other")
    assert ask(catalog, "SELECT run, min(value) FROM metrics GROUP BY run ORDER BY run") == [
        ("demo", 1.5), ("other", 1.5),
    ]  # fmt: skip


def test_a_refresh_reads_only_what_is_new(measure: Measure, store: Store, snapshot) -> None:
    catalog = Catalog(store.backend)
    for number in range(5):
        measure("base", float(number + 1))
    assert catalog.refresh()
    gets: list[str] = []
    read, read_many = store.backend.get, store.backend.get_many
    store.backend.get = lambda key: gets.append(key) or read(key)  # type: ignore[method-assign]
    store.backend.get_many = lambda keys: gets.extend(keys) or read_many(keys)  # type: ignore[method-assign]
    before = snapshot(catalog.path.parent)
    assert not catalog.refresh()
    assert (set(gets), snapshot(catalog.path.parent)) == ({"lists/base/demo.json"}, before)
    new = measure("base", 9.0)
    gets.clear()
    assert catalog.refresh()
    day = new.manifest.created[:10]
    assert sorted(set(gets)) == [
        "lists/base/demo.json", f"manifests/{new.manifest.hex}.json",
        f"metrics/{day}/{new.manifest.hex}.parquet",
    ]  # fmt: skip
    assert catalog.query("SELECT count(*), max(value) FROM metrics").rows == [(6, 9.0)]
    assert catalog.query("SELECT ref FROM artifacts WHERE aliases = ['latest']").rows == [("base/demo@v6",)]


def test_an_alias_that_moves_back_is_seen(catalog: Catalog, measure: Measure, store: Store) -> None:
    for value in (1.0, 2.0):
        measure("base", value)
    for version in (1, 2, 1):
        store.set_alias(f"base/demo@v{version}", "prod")
        found = ask(catalog, "SELECT version FROM artifacts WHERE list_contains(aliases, 'prod')")
        assert found == [(version,)]


def test_a_clock_that_is_years_off_hides_nothing(catalog: Catalog, measure: Measure) -> None:
    for number, year in enumerate((2099, 2001, 2098, 2026)):
        measure("base", float(number), created=f"{year}-01-01T00:00:00+00:00")
        assert ask(catalog, "SELECT count(*) FROM metrics") == [(number + 1,)]


def test_a_part_without_a_name_is_found_by_its_day(catalog: Catalog, measure: Measure) -> None:
    measure("base", 1.0)
    catalog.refresh()
    measure("tokenize-shard", 7.0, name=None)
    assert ask(catalog, "SELECT run, artifact, value FROM metrics WHERE stage <> 'base'") == [
        (None, None, 7.0)
    ]


def test_records_stay_when_their_artifact_is_gone_and_count_once_when_it_is_back(
    catalog: Catalog, measure: Measure, store: Store
) -> None:
    made = measure("tokenize-shard", 7.0, name=None)
    key = f"manifests/{made.manifest.hex}.json"
    store.backend.delete(key)
    assert ask(catalog, "SELECT artifact, value FROM metrics") == [(None, 7.0)]
    store.backend.put(key, made.manifest.to_bytes())
    ref = store.name(made.manifest, "demo")
    assert ask(catalog, "SELECT artifact, value FROM metrics") == [(str(ref), 7.0)]


def test_records_whose_publisher_was_stopped_come_from_the_artifact(
    catalog: Catalog, measure: Measure, store: Store
) -> None:
    made = measure("base", 3.0, published=False)
    assert ask(catalog, "SELECT artifact, value FROM metrics") == [("base/demo@v1", 3.0)]
    publish_metrics(store, made.manifest, made.ref, records_of(store, made.manifest))
    assert ask(catalog, "SELECT artifact, value FROM metrics") == [("base/demo@v1", 3.0)]


def test_a_damaged_file_in_the_store_is_named_once(catalog: Catalog, measure: Measure, store: Store) -> None:
    measure("base", 1.0)
    catalog.refresh()
    made = measure("base", 2.0)
    key = f"metrics/{made.manifest.created[:10]}/{made.manifest.hex}.parquet"
    store.backend.put(key, (store.backend.get(key) or b"")[:-9])
    for _ in range(2):
        with pytest.raises(DataError) as error:
            catalog.refresh()
        assert error.value.message == f"{store.backend.url}/{key} is no intact Parquet file of metrics"
        assert "remove it" in error.value.hint
    assert catalog.query("SELECT value FROM metrics").rows == [(1.0,)]
    store.backend.delete(key)
    assert ask(catalog, "SELECT value FROM metrics ORDER BY 1") == [(1.0,), (2.0,)]


def test_a_damaged_manifest_is_named(catalog: Catalog, measure: Measure, store: Store) -> None:
    made = measure()
    store.backend.put(f"manifests/{made.manifest.hex}.json", b"{}")
    with pytest.raises(DataError, match=r"base/demo@v1 is damaged: manifests/"):
        catalog.refresh()


@pytest.mark.parametrize("bytes_left", [b"", b"x" * 5000, None])
def test_a_damaged_catalog_is_made_again(
    bytes_left: bytes | None, catalog: Catalog, measure: Measure
) -> None:
    measure("base", 1.0)
    catalog.refresh()
    whole = catalog.path.read_bytes()
    catalog.path.write_bytes(whole[: len(whole) // 2] if bytes_left is None else bytes_left)
    assert ask(catalog, "SELECT value FROM metrics") == [(1.0,)]


def test_a_flipped_byte_anywhere_in_the_catalog_changes_no_answer(
    catalog: Catalog, measure: Measure, flip: Callable[..., None]
) -> None:
    measure("base", *(step / 100 for step in range(100)))
    catalog.refresh()
    question = "SELECT count(*), sum(value), max(artifact) FROM metrics"
    expected = catalog.query(question).rows
    whole = catalog.path.read_bytes()
    for offset in range(5, len(whole), len(whole) // 20):
        catalog.path.write_bytes(whole)
        flip(catalog.path, offset)
        assert ask(catalog, question) == expected


def test_another_store_at_the_same_place_is_read_from_the_start(
    catalog: Catalog, measure: Measure, store: Store
) -> None:
    measure("base", 1.0)
    measure("mid", 1.0)
    catalog.refresh()
    for info in list(store.backend.list("")):
        store.backend.delete(info.key)
    measure("sft", 5.0)
    assert ask(catalog, "SELECT artifact, value FROM metrics") == [("sft/demo@v1", 5.0)]


def test_a_killed_refresh_leaves_nothing_that_matters(catalog: Catalog, measure: Measure) -> None:
    measure("base", 1.0)
    catalog.path.parent.mkdir(parents=True)
    catalog.path.with_suffix(".new").write_bytes(b"half of a file")
    Path(f"{catalog.path.with_suffix('.new')}.wal").write_bytes(b"half of a log")
    assert ask(catalog, "SELECT value FROM metrics") == [(1.0,)]
    assert sorted(path.suffix for path in catalog.path.parent.iterdir()) == [".duckdb", ".lock"]


def test_threads_that_refresh_and_read_at_once_agree(measure: Measure, store: Store) -> None:
    counts: list[int] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            catalog = Catalog(store.backend)
            for _ in range(5):
                counts.append(ask(catalog, "SELECT count(*) FROM metrics")[0][0])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(6):
        measure("base", float(number))
    for thread in threads:
        thread.join()
    assert not failures
    assert set(counts) <= set(range(7))
    assert ask(Catalog(store.backend), "SELECT count(*), count(DISTINCT value) FROM metrics") == [(6, 6)]


def test_processes_that_refresh_at_once_agree(tmp_path: Path, measure: Measure, store: Store) -> None:
    if isinstance(store.backend, MemoryBackend):
        store = Store.open(str(tmp_path / "copy"))  # another process sees files only
    else:
        for number in range(20):
            measure("base", float(number))
    program = (
        "import sys; from artifacts.backends import open_backend; from artifacts.catalog import Catalog\n"
        "catalog = Catalog(open_backend(sys.argv[1])); catalog.refresh()\n"
        "print(catalog.query('SELECT count(*) FROM metrics').rows[0][0])"
    )
    root = Path(__file__).parents[3]
    running = [
        subprocess.Popen([sys.executable, "-c", program, store.backend.url], cwd=root, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(3)
    ]  # fmt: skip
    ended = [process.communicate(timeout=100) for process in running]
    expected = ask(Catalog(store.backend), "SELECT count(*) FROM metrics")[0][0]
    assert ended == [(f"{expected}\n", "")] * 3


def test_a_reader_goes_on_while_the_catalog_is_replaced(catalog: Catalog, measure: Measure) -> None:
    measure("base", 1.0)
    catalog.refresh()
    with catalog._reader() as reader:
        measure("base", 2.0)
        assert ask(catalog, "SELECT count(*) FROM metrics") == [(2,)]
        assert reader.execute("SELECT count(*) FROM metrics").fetchone() == (1,)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO stored.records (name) VALUES ('x')", "DELETE FROM stored.records", "DROP VIEW runs",
        "CREATE TABLE memory.main.x AS SELECT 1", "SET threads = 1", "RESET lock_configuration",
        "ATTACH 'other.db'", "DETACH catalog", "COPY metrics TO 'x.csv'", "EXPORT DATABASE 'x'",
        "INSTALL httpfs", "LOAD httpfs", "PRAGMA enable_profiling", "CALL pragma_version()", "CHECKPOINT",
        "VACUUM", "SELECT 1; SELECT 2", "SELECT 1; DROP VIEW runs", "", "-- nothing", "BEGIN", "USE memory",
    ],
)  # fmt: skip
def test_only_one_reading_statement_is_allowed(sql: str, asked: Catalog, snapshot) -> None:
    before = snapshot(asked.path.parent)
    with pytest.raises(UsageError, match="is not one reading statement"):
        asked.query(sql)
    assert snapshot(asked.path.parent) == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd.csv'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM 's3://bucket/x.parquet'",
        "SELECT * FROM 'https://127.0.0.1:1/x.parquet'", "SELECT * FROM read_blob('store.json')",
    ],
)  # fmt: skip
def test_no_other_file_and_no_network_is_read(sql: str, asked: Catalog) -> None:
    with pytest.raises(UsageError, match="file system operations are disabled"):
        asked.query(sql)


def test_nothing_is_downloaded(asked: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = ("autoinstall_known_extensions", "autoload_known_extensions", "enable_external_access")
    for setting in settings:
        assert asked.query(f"SELECT current_setting('{setting}')").rows == [(False,)]
    with pytest.raises(UsageError, match="spatial"):
        asked.query("SELECT st_point(1, 2)")
    assert not (tmp_path / ".duckdb").exists()


def test_no_variable_of_the_program_is_a_table(asked: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artifacts.catalog.a_variable", pa.table({"a": [1]}), raising=False)
    with pytest.raises(UsageError, match="a_variable does not exist"):
        asked.query("SELECT * FROM a_variable")


@pytest.mark.parametrize(
    ("sql", "message", "hint"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"', "nanochat metrics lists"),
        ("SELECT valu FROM metrics", "valu", '"value"'),
        ("SELECT * FROM metricz", "Table with name metricz does not exist", 'Did you mean "metrics"'),
        ("SELECT 'a'::INTEGER", "Could not convert string 'a' to INT", "nanochat metrics lists"),
        ("SELECT '\udcff'", "not UTF-8", "SELECT"),
    ],
)
def test_a_wrong_statement_is_one_line_with_a_hint(sql: str, message: str, hint: str, asked: Catalog) -> None:
    with pytest.raises(UsageError) as error:
        asked.query(sql)
    assert message in error.value.message
    assert hint in error.value.hint
    assert "\n" not in str(error.value)


@given(sql=st.text(max_size=40) | st.text("SELECT*FROMruns'\";-/ 1", max_size=30).map("SELECT {}".format))
def test_any_text_has_an_answer_or_one_line(sql: str, asked: Catalog) -> None:
    try:
        asked.query(sql, limit=1)
    except UsageError as error:
        line = str(error)
        if "\n" in line:
            raise


def test_a_limit_says_that_there_is_more(asked: Catalog) -> None:
    found = asked.query("SELECT * FROM range(5)", limit=3)
    assert (found.columns, found.rows, found.more) == (("range",), [(0,), (1,), (2,)], True)
    assert not asked.query("SELECT * FROM range(3)", limit=3).more


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The catalog of an empty store, for questions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_HOME", str(tmp_path_factory.mktemp("home")))
        catalog = Catalog(MemoryBackend("asked"))
    catalog.refresh()
    return catalog


def test_two_stores_have_two_catalogs(store: Store, tmp_path: Path) -> None:
    other = Store.open(str(tmp_path / "other"))
    assert Catalog(store.backend).path != Catalog(other.backend).path
    assert Catalog(store.backend).path == Catalog(store.backend).path
    shutil.rmtree(tmp_path / "other")
