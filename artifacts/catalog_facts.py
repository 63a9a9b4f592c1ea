"""What a catalog takes over from manifests and Parquet files, read a few objects at a time.

Manifests and measurements never change, so each is read once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.catalog_news import Known, News
from artifacts.listing import Listed
from artifacts.manifest import Manifest
from artifacts.metrics import read_metrics, records_of, run_name, table_of
from artifacts.names import Pointer

if TYPE_CHECKING:
    from artifacts.store import Store

_BATCH = 256  # Parquet files in memory


@dataclass(frozen=True)
class Facts:
    """Rows for the tables; ``aliases`` are all that there are, of the others those that are new."""

    versions: list[dict[str, Any]]
    aliases: list[dict[str, Any]]
    manifests: list[dict[str, Any]]
    parents: list[dict[str, Any]]
    days: dict[str, str]


def read_facts(store: Store, news: News, known: Known) -> Facts:
    """Read the new manifests. Raises DataError if one is damaged."""
    wanted: dict[str, Pointer | None] = dict.fromkeys(news.metrics)
    for item in news.versions:
        wanted[item.entry.manifest] = item.entry.pointer
    wanted = {sha256: pointer for sha256, pointer in wanted.items() if sha256 not in known.manifests}
    found = store.backend.get_many([layout.manifest(sha256) for sha256 in wanted])
    manifests = {
        sha256: record
        for (sha256, pointer), data in zip(wanted.items(), found, strict=True)
        if (record := _manifest(store, sha256, pointer, data))
    }
    return Facts(
        versions=[_version_row(item) for item in news.versions],
        aliases=[_alias_row(item, alias) for item in news.aliased for alias in item.aliases],
        manifests=[_manifest_row(sha256, record) for sha256, record in manifests.items()],
        parents=[
            {"manifest": sha256, "role": parent["role"], "parent": parent["ref"],
             "parent_manifest": parent["manifest"]}
            for sha256, record in manifests.items() for parent in record["parents"]
        ],
        days={sha256: record["created"][:10] for sha256, record in manifests.items()},
    )  # fmt: skip


def read_records(store: Store, days: dict[str, str]) -> Iterator[Any]:
    """Tables of the records of many manifests (-> day), read from their Parquet files.

    An artifact that has none yet, because its publisher was stopped, has them in ``run/``.
    """
    import pyarrow as pa

    items = [(sha256, layout.metrics(day, sha256)) for sha256, day in days.items()]
    for start in range(0, len(items), _BATCH):
        batch = items[start : start + _BATCH]
        found = store.backend.get_many([key for _, key in batch])
        tables = [_records(store, *item, data) for item, data in zip(batch, found, strict=True)]
        yield pa.concat_tables(tables).combine_chunks()


def _manifest(
    store: Store, sha256: str, pointer: Pointer | None, data: bytes | None
) -> dict[str, Any] | None:
    """A manifest as JSON, its bytes verified; None if it is gone and nothing points to it."""
    if data is not None and Manifest.sha256_of(data) == sha256:
        record: dict[str, Any] = json.loads(data)
        if record.get("schema") == 1:
            return record
    if pointer is None:
        return None
    return store.manifest(pointer).model_dump(mode="json", by_alias=True)  # raises what is wrong with it


def _records(store: Store, sha256: str, key: str, data: bytes | None) -> Any:
    if data is not None:
        return read_metrics(data, sha256, f"{store.backend.url}/{key}")
    manifest = store.backend.get(layout.manifest(sha256))
    return table_of(sha256, [] if manifest is None else records_of(store, Manifest.from_bytes(manifest)))


def _version_row(item: Listed) -> dict[str, Any]:
    ref, entry = item.ref, item.entry
    return {
        "ref": str(ref), "kind": ref.kind, "name": ref.name, "version": ref.version,
        "run": run_name(ref.kind, ref.name, entry.stage), "manifest": entry.manifest,
    }  # fmt: skip


def _alias_row(item: Listed, alias: str) -> dict[str, Any]:
    return {"ref": str(item.ref), "alias": alias}


def _manifest_row(sha256: str, record: dict[str, Any]) -> dict[str, Any]:
    value = record["metrics"].get(record["key_metric"])
    sizes = [entry["size"] for entry in (*record["files"], *record["run_files"])]
    return {
        "manifest": sha256, "digest": record["digest"], "stage": record["stage"],
        "fingerprint": record["fingerprint"], "created": record["created"], "bytes": sum(sizes),
        "commit": record["provenance"]["commit"], "command": record["provenance"]["command"],
        "config": json.dumps(record["recipe"].get("config", {})), "metrics": json.dumps(record["metrics"]),
        "key_metric": record["key_metric"],
        "key_value": float(value) if isinstance(value, int | float) else None,
    }  # fmt: skip
