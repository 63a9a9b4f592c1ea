"""Lineage as events of OpenLineage, which catalogs such as Marquez and DataHub collect."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artifacts.errors import DataError
from artifacts.lineage import Graph, Node, oldest_first

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PRODUCER = "pkg:generic/nanochat-pipeline"
_SPEC = "https://openlineage.io/spec"


def openlineage(graph: Graph, store_url: str) -> str:
    """One COMPLETE RunEvent of OpenLineage 2-0-2 a line for each artifact of a detailed graph, oldest first.

    A job makes one version, so that versions do not replace each other where events are collected.
    Raises DataError if the time at which an artifact was made is no time.
    """
    namespace = store_url if "://" in store_url else Path(store_url).as_uri()
    events = (_event(node, namespace) for node in oldest_first(graph))
    return "".join(json.dumps(event, ensure_ascii=True, allow_nan=False) + "\n" for event in events)


def _event(node: Node, namespace: str) -> dict[str, Any]:
    inputs = {item["ref"]: item["digest"] for item in node["parents"]}  # one may be read in two roles
    parameters = [{"key": key, "value": _text(value)} for key, value in node["config"].items()]
    statistics = _facet(
        "1-0-2", "OutputStatisticsOutputDatasetFacet", size=node["bytes"], fileCount=node["files"]
    )
    made = _dataset(namespace, node["ref"], node["digest"])
    return {
        "eventType": "COMPLETE",
        "eventTime": _time(node),
        "run": {
            "runId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{_PRODUCER}#{node['manifest']} {node['ref']}")),
            "facets": {
                "executionParameters": _facet("1-0-0", "ExecutionParametersRunFacet", parameters=parameters)
            },
        },
        "job": {
            "namespace": namespace,
            "name": f"{node['stage']}:{node['ref']}",
            "facets": _job_facets(node),
        },
        "inputs": [_dataset(namespace, ref, digest) for ref, digest in inputs.items()],
        "outputs": [made | {"outputFacets": {"outputStatistics": statistics}}],
        "producer": _PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
    }


def _job_facets(node: Node) -> dict[str, Any]:
    """What kind of job it was, and its commit.

    The repository's address is not recorded, so the URL is the commit's in the Software Heritage archive.
    """
    kind = _facet("2-0-3", "JobTypeJobFacet", processingType="BATCH", integration="NANOCHAT", jobType="STAGE")
    commit = node["provenance"]["commit"] or ""
    if not _COMMIT.fullmatch(commit):
        return {"jobType": kind}
    url = f"https://archive.softwareheritage.org/swh:1:rev:{commit}"
    version = f"{commit}-dirty" if node["provenance"]["dirty"] else commit
    code = _facet("1-0-1", "SourceCodeLocationJobFacet", type="git", url=url, version=version)
    return {"jobType": kind, "sourceCodeLocation": code}


def _dataset(namespace: str, ref: str, digest: str) -> dict[str, Any]:
    version = _facet("1-0-1", "DatasetVersionDatasetFacet", datasetVersion=f"sha256:{digest}")
    return {"namespace": namespace, "name": ref, "facets": {"version": version}}


def _facet(version: str, name: str, /, **fields: Any) -> dict[str, Any]:
    return {
        "_producer": _PRODUCER,
        "_schemaURL": f"{_SPEC}/facets/{version}/{name}.json#/$defs/{name}",
        **fields,
    }


def _text(value: Any) -> str:
    """A parameter's value, which the spec wants as a string: JSON, but for what is one already."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)


def _time(node: Node) -> str:
    """When it was made, in RFC 3339."""
    try:
        made = datetime.fromisoformat(node["created"])
    except ValueError as error:
        raise DataError(
            f"{node['ref']} was made at {node['created'][:80]!r}: not a time", "use another --format"
        ) from error
    return (made if made.tzinfo else made.replace(tzinfo=UTC)).isoformat()
