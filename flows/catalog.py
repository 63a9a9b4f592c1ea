"""The web app's catalog, answered from a store and this machine's DuckDB catalog of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from artifacts.catalog import Catalog as SqlCatalog
from artifacts.errors import UsageError
from artifacts.listing import listing
from artifacts.ref import ArtifactRef
from artifacts.store import Store
from flows.headline import headline
from flows.settings import Settings
from nanochat.serve.catalog import ArtifactPage, Link, Row

RUN_URL = "flow_run_url"
_USED_BY = """
    SELECT DISTINCT role, child FROM lineage JOIN artifacts ON parent_manifest = artifacts.manifest
    WHERE digest = ? ORDER BY child, role
"""


class StoreCatalog:
    """``nanochat.serve.catalog.Catalog`` over one store. Safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sql = SqlCatalog(store.backend)
        self._lock = threading.Lock()

    def artifacts(self, limit: int) -> list[Row]:
        """The newest artifacts, newest first."""
        newest = sorted(listing(self._store.backend), key=lambda item: item.entry.created, reverse=True)
        return [
            Row(str(item.ref), item.aliases, item.entry.created, item.entry.bytes,
                headline({item.entry.key_metric: item.entry.value}, item.entry.key_metric))
            for item in newest[:limit]
        ]  # fmt: skip

    def artifact(self, ref: str) -> ArtifactPage:
        """Everything about one artifact."""
        found, manifest = self._store.resolve(ref)
        provenance = manifest.provenance
        settings = {name: str(value) for name, value in provenance.settings.items() if name != RUN_URL}
        machine = ", ".join(provenance.hardware.gpus) or provenance.hardware.cpu
        entries = manifest.all_files()
        return ArtifactPage(
            ref=str(found), digest=manifest.digest, fingerprint=manifest.fingerprint, stage=manifest.stage,
            created=manifest.created, bytes=manifest.total_bytes, aliases=self._aliases(found),
            metrics=manifest.metrics, config=_dotted(manifest.recipe.get("config", {})),
            inputs=[Link(parent.role, parent.ref) for parent in manifest.parents],
            used_by=self._used_by(manifest.digest),
            files=[(path, entry.size, entry.sha256) for path, entry in entries.items()],
            commit=f"{provenance.commit or ''}{' with changes' if provenance.dirty else ''}",
            command=provenance.command, made_with={"machine": machine, **provenance.versions, **settings},
            run_url=_web_address(provenance.settings.get(RUN_URL)),
        )  # fmt: skip

    def page(self, ref: str, file: str) -> bytes:
        """A page of a report."""
        found, manifest = self._store.resolve(ref)
        if manifest.kind != "report" or file not in {entry.path for entry in manifest.files}:
            raise UsageError(f"{found} has no page {file}", "reports have one: nanochat art show report/NAME")
        return (self._store.checkout(manifest, Settings().views) / file).read_bytes()

    def _aliases(self, ref: ArtifactRef) -> list[str]:
        every = self._store.aliases(ref.kind, ref.name).items()
        return [text for text, alias in every if alias.version == ref.version]

    def _used_by(self, digest: str) -> list[Link]:
        """Children by digest: also of the same bytes under another name."""
        with self._lock:
            self._sql.refresh()
            answer = self._sql.query(_USED_BY, [digest])
        return [Link(role, child) for role, child in answer.rows]


def _dotted(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields as ``--set`` takes them: ``optim.lr_scale``."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _dotted(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _web_address(value: object) -> str:
    """The value if it is one: a manifest may come from elsewhere."""
    return value if isinstance(value, str) and value.startswith(("http://", "https://")) else ""
