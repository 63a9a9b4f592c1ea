"""An artifact's records as a Parquet file: written once, read back as they were, damage named."""

from __future__ import annotations

import io
import json
import math
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.backends.memory import MemoryBackend
from artifacts.errors import DataError, UsageError
from artifacts.metrics import (
    COLUMNS,
    parse_records,
    publish_metrics,
    read_metrics,
    records_of,
    run_name,
    table_of,
)
from artifacts.store import Store

HEX = "ab" + "0" * 62
LOSS = {
    "v": 1, "kind": "metric", "stage": "base", "attempt": 1, "step": 3, "tokens": 300, "elapsed_s": 1.5,
    "time": "2026-01-02T03:04:05.000+00:00", "name": "train/loss", "value": 2, "n": None, "ci_low": None,
    "ci_high": None, "split": None, "task": None,
}  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def stub(created: str) -> Any:
    """As much of a manifest as the file needs."""
    return SimpleNamespace(hex=HEX, digest=HEX, kind="base", stage="base", fingerprint=HEX, created=created)


def lines(*records: dict[str, Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def files(store: Store) -> dict[str, bytes]:
    return {info.key: store.backend.get(info.key) or b"" for info in store.backend.list("metrics/")}


def publish(store: Store, published: Any) -> bool:
    manifest = published.manifest
    return publish_metrics(store, manifest, published.ref, records_of(store, manifest))


def test_one_file_an_artifact_under_the_day_it_was_made(make, store: Store) -> None:
    published = make.commit(run={"records.jsonl": lines(LOSS)}, created="2026-02-28T23:59:59+00:00")
    assert publish(store, published)
    (key, data), = files(store).items()  # fmt: skip
    assert key == f"metrics/2026-02-28/{published.manifest.hex}.parquet"
    (row,) = parquet.read_table(io.BytesIO(data)).to_pylist()
    more = {"manifest": published.manifest.hex, "artifact": "base/demo@v1", "value": 2.0, "text": None}
    assert row == LOSS | more
    facts = json.loads(parquet.read_metadata(io.BytesIO(data)).metadata[b"nanochat"])
    assert facts["digest"] == published.manifest.digest
    assert (facts["run"], facts["stage"]) == ("demo", "base")


def test_it_is_never_written_again(make, store: Store) -> None:
    published = make.commit(run={"records.jsonl": lines(LOSS)})
    publish(store, published)
    before = files(store)
    assert not publish_metrics(store, published.manifest, published.ref, [LOSS | {"value": 9}])
    assert files(store) == before


def test_nothing_is_written_for_no_records(make, store: Store) -> None:
    assert not publish(store, make.commit())
    assert not publish(store, make.commit({"a": b"a"}, stage="mid", run={"records.jsonl": b""}))
    assert files(store) == {}


def test_an_artifact_without_a_name_has_metrics_too(make, store: Store) -> None:
    assert publish(store, make.commit(name=None, run={"records.jsonl": lines(LOSS)}))
    (data,) = files(store).values()
    column = parquet.read_table(io.BytesIO(data))["artifact"]
    assert (column.to_pylist(), str(column.type)) == ([None], "string")


@given(st.lists(json_values, max_size=5))
def test_any_value_is_a_finite_number_or_text(values: list[Any]) -> None:
    found = table_of(HEX, ({"value": value} for value in values)).to_pylist()
    for value, row in zip(values, found, strict=True):
        assert row["manifest"] == HEX
        if value is None:
            assert (row["value"], row["text"]) == (None, None)
        elif isinstance(value, str):
            assert (row["value"], row["text"]) == (None, value)
        elif row["value"] is not None:
            assert math.isfinite(row["value"])
            assert (row["value"], row["text"]) == (float(value), None)
            assert not isinstance(value, bool)
        else:
            assert repr(json.loads(row["text"])) == repr(json.loads(json.dumps(value)))


def test_what_json_may_hold_but_no_column_is_kept_or_refused() -> None:
    hostile = [{"value": "\ud800"}, {"value": 10**400}, {"value": math.inf}, {"more": 1}]
    texts = [row["text"] for row in table_of(HEX, hostile).to_pylist()]
    assert texts == ["?", "1" + "0" * 400, "Infinity", None]
    for record in ({"step": "x"}, {"step": 1 << 70}, {"name": 5}, {"task": "\ud800"}):
        with pytest.raises(DataError, match="fits no column"):
            table_of(HEX, [record])


@given(st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=3), max_size=5), st.data())
def test_lines_are_read_back_and_a_torn_one_is_dropped(records: list[dict[str, Any]], data: Any) -> None:
    text = lines(*records)
    cut = text[: data.draw(st.integers(0, len(text)))]
    whole = cut.count(b"\n") + (cut.rpartition(b"\n")[2][-1:] == b"}" and _is_json(cut.rpartition(b"\n")[2]))
    assert repr(list(parse_records(cut, "x"))) == repr([json.loads(json.dumps(r)) for r in records[:whole]])


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("bad", [b"{\n{}\n", b"[]\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_a_bad_line_is_named(bad: bytes, make, store: Store) -> None:
    published = make.commit(run={"records.jsonl": lines(LOSS) + bad})
    with pytest.raises(DataError, match=r"run/records.jsonl of base sha256:.*: line 2 is not"):
        publish(store, published)
    assert files(store) == {}


def test_records_that_lost_their_bytes_are_named(make, store: Store, blob_of, flip) -> None:
    published = make.commit(run={"records.jsonl": lines(LOSS)})
    flip(blob_of(published.manifest, "run/records.jsonl"))
    with pytest.raises(DataError, match=r"base/demo@v1 is damaged: run/records.jsonl does not have"):
        publish(store, published)
    blob_of(published.manifest, "run/records.jsonl").unlink()
    with pytest.raises(DataError, match=r"run/records.jsonl is missing"):
        publish(store, published)


@pytest.fixture(scope="module")
def good() -> bytes:
    """A stored Parquet file."""
    store = Store(MemoryBackend())
    publish_metrics(store, stub("2026-01-01"), None, [LOSS | {"step": step} for step in range(20)])
    return next(iter(files(store).values()))


@settings(max_examples=300)
@given(st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(good: bytes, data: Any) -> None:
    damaged = bytearray(good)
    damaged[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = read_metrics(bytes(damaged), HEX, "metrics/x")
    except DataError:
        return
    assert found.equals(read_metrics(good, HEX, ""))


@given(st.integers(0, 10_000))
def test_a_cut_file_is_refused(good: bytes, size: int) -> None:
    with pytest.raises(DataError, match="metrics/x is no intact Parquet file"):
        read_metrics(good[: size % len(good)], HEX, "metrics/x")


def test_another_parquet_file_is_refused() -> None:
    for table in (pa.table({"a": [1]}), pa.table({name: ["text"] for name in COLUMNS})):
        data = io.BytesIO()
        parquet.write_table(table, data)
        with pytest.raises(DataError, match="metrics/x is no intact"):
            read_metrics(data.getvalue(), HEX, "metrics/x")


def test_an_evaluation_belongs_to_the_run_of_its_model() -> None:
    assert run_name("base", "demo-base", "base") == "demo-base"
    assert run_name("eval", "demo-base", "eval-base") == "demo"
    assert run_name("eval", "a-base-sft-custom", "eval-sft") == "a-base"


@pytest.mark.parametrize("created", ["", "../../..", "2026-13-01"])
def test_no_key_is_made_of_a_free_date(created: str) -> None:
    store = Store(MemoryBackend())
    with pytest.raises(UsageError, match="is no day"):
        publish_metrics(store, stub(created), None, [LOSS])
    assert files(store) == {}
