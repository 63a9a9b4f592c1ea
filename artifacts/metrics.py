"""An artifact's measurements as one small Parquet file in the store, beside the artifact.

They are a copy of the records that its ``run/records.jsonl`` holds, in a form that SQL reads at once.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.errors import DataError
from artifacts.manifest import Manifest
from artifacts.names import Pointer
from artifacts.ref import ArtifactRef
from artifacts.verify import MISSING, WRONG_BYTES, damaged

if TYPE_CHECKING:
    from artifacts.store import Store

RECORDS = "records.jsonl"
COLUMNS = {
    "v": "int64", "kind": "string", "stage": "string", "attempt": "int64", "step": "int64",
    "tokens": "int64", "elapsed_s": "double", "time": "string", "name": "string", "value": "double",
    "text": "string", "n": "int64", "ci_low": "double", "ci_high": "double", "split": "string",
    "task": "string",
}  # fmt: skip


def publish_metrics(
    store: Store, manifest: Manifest, ref: ArtifactRef | None, records: Iterable[dict[str, Any]]
) -> bool:
    """Store an artifact's records, unless they are there; False if nothing was written.

    Nothing is written for no records. Raises DataError for a record that fits no column.
    """
    import pyarrow.parquet as parquet

    table = table_of(manifest.hex, records)
    if not table.num_rows:
        return False
    table = _with(table, "artifact", str(ref) if ref else None)
    facts = {
        "schema": 1, "manifest": manifest.hex, "digest": manifest.digest, "kind": manifest.kind,
        "name": ref.name if ref else None, "artifact": str(ref) if ref else None,
        "run": run_name(ref.kind, ref.name, manifest.stage) if ref else None, "stage": manifest.stage,
        "fingerprint": manifest.fingerprint, "created": manifest.created,
    }  # fmt: skip
    data = io.BytesIO()
    options = {"store_schema": False, "write_statistics": False, "write_page_checksum": True}
    with parquet.ParquetWriter(data, table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"nanochat": json.dumps(facts)})
    return store.backend.put_new(layout.metrics(manifest.created[:10], manifest.hex), data.getvalue())


def records_of(store: Store, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The records that an artifact keeps in ``run/records.jsonl``, if any; DataError if they are damaged."""
    file = f"run/{RECORDS}"
    entry = manifest.all_files().get(file)
    if entry is None:
        return
    data = store.backend.get(layout.blob(entry.sha256))
    if data is None or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise damaged(store, Pointer.to(manifest), file, MISSING if data is None else WRONG_BYTES)
    yield from parse_records(data, f"{file} of {manifest.stage} sha256:{manifest.digest[:12]}")


def parse_records(data: bytes, source: str) -> Iterator[dict[str, Any]]:
    """The records of JSON lines; a torn last line is ignored, DataError names any other bad line."""
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                return
            raise DataError(f"{source}: line {number} is not JSON") from error
        if not isinstance(record, dict):
            raise DataError(f"{source}: line {number} is not a JSON object")
        yield record


def table_of(manifest_hex: str, records: Iterable[dict[str, Any]]) -> Any:
    """A pyarrow table of ``manifest`` and COLUMNS: a number is in ``value``, anything else in ``text``."""
    import pyarrow as pa

    schema = pa.schema(list(COLUMNS.items()))
    try:
        table = pa.Table.from_pylist([_row(record) for record in records], schema=schema)
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"a record of manifest {manifest_hex[:12]} fits no column: {reason}") from error
    return _with(table, "manifest", manifest_hex)


def read_metrics(data: bytes, manifest_hex: str, source: str) -> Any:
    """The same table out of a stored Parquet file; DataError, which names ``source``, if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        table = file.read(columns=list(COLUMNS), use_threads=False).select(list(COLUMNS))
        if not table.schema.equals(schema := pa.schema(list(COLUMNS.items()))):
            table = table.cast(schema)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        hint = "remove it: the artifact holds the same records in run/records.jsonl"
        raise DataError(f"{source} is no intact Parquet file of metrics", hint) from error
    return _with(table, "manifest", manifest_hex)


def run_name(kind: str, name: str, stage: str) -> str:
    """The run that an artifact belongs to: its name; an evaluation's also says which model it judges."""
    if kind != "eval":
        return name
    return name.removesuffix("-custom").removesuffix(f"-{stage.removeprefix('eval-')}")


def _with(table: Any, name: str, text: str | None) -> Any:
    """The table with a first column that says the same in every row."""
    import pyarrow as pa

    return table.add_column(0, name, pa.array([text] * table.num_rows, pa.string()))


def _row(record: dict[str, Any]) -> dict[str, Any]:
    value = record.get("value")
    number = _number(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return {name: record.get(name) for name in COLUMNS} | {
        "value": number,
        "text": None if value is None or number is not None else text.encode("utf-8", "replace").decode(),
    }


def _number(value: Any) -> float | None:
    """A finite number as float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
