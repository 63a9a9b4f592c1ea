"""The web app's catalog, answered from a store and this machine's DuckDB catalog of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from artifacts import layout
from artifacts import lineage as walk
from artifacts.catalog import Catalog as SqlCatalog
from artifacts.errors import NanochatError, ResourceError, UsageError
from artifacts.listing import Listed, listing
from artifacts.metrics import records_of
from artifacts.paths import home
from artifacts.ref import LATEST, ArtifactRef
from artifacts.store import Store
from flows.headline import headline
from flows.live import curves_of, working
from flows.settings import Settings
from flows.trend import nights, regressions
from nanochat.serve.catalog import (
    MODEL_KINDS,
    ArtifactPage,
    Curve,
    Edge,
    Graph,
    Link,
    Measured,
    Night,
    Row,
    Run,
    Stage,
    Trend,
    Working,
)

RUN_URL = "flow_run_url"
BPB_TOLERANCE = 0.01  # as the nightly flow takes it by itself
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
        return [_row(item) for item in self._newest(limit)]

    def checkpoints(self, limit: int) -> list[Row]:
        """The newest checkpoints, newest first, each with all its metrics."""
        found = self._newest(limit, MODEL_KINDS)
        manifests = self._store.manifests([item.entry.pointer for item in found])
        return [_row(item, manifest.metrics) for item, manifest in zip(found, manifests, strict=True)]

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

    def set_alias(self, ref: str, alias: str) -> str:
        """Point an alias to what ``ref`` means now."""
        return str(self._store.set_alias(ref, alias))

    def lineage(self, ref: str, *, forward: bool) -> Graph:
        """The graph above an artifact, or below it."""
        found = (walk.descendants if forward else walk.graph)(self._store, ref)
        about = self._headlines()
        nodes = {node["ref"]: about.get(node["ref"]) or node["digest"][:12] for node in found["nodes"]}
        edges = dict.fromkeys(Edge(edge["parent"], edge["child"], edge["role"]) for edge in found["edges"])
        return Graph(found["root"], nodes, list(edges))

    def runs(self, limit: int) -> list[Run]:
        """The newest runs of this machine."""
        paths, about = sorted(_run_files().values(), reverse=True)[:limit], self._headlines()
        return [run for path in paths if (run := _run(path, about))]

    def run(self, id: str) -> Run:
        """One run, with a link to where Prefect shows it."""
        path = _run_files().get(id)
        found = _run(path, self._headlines()) if path else None
        if found is None:
            raise ResourceError(f"no run {id} on this machine", "the page of all runs lists them")
        return replace(found, url=self._run_url(found))

    def curves(self, ref: str) -> list[Curve]:
        """The curves in the records beside an artifact; nothing if it is gone, or none were kept."""
        try:
            return curves_of(records_of(self._store, self._store.resolve(ref)[1]))
        except NanochatError:
            return []

    def working(self) -> list[Working]:
        """What writes to the attempts of this store, or to those of this machine."""
        here = self._store.backend.local_path(layout.ATTEMPTS) or home() / layout.ATTEMPTS
        return working(here)

    def trends(self, nights: int) -> list[Trend]:
        """Every evaluation by name, the one that changed last first."""
        names = {item.ref.name for item in listing(self._store.backend, "eval")}
        found = [trend for name in sorted(names) if (trend := self._trend(name, nights))]
        return sorted(found, key=lambda trend: trend.nights[-1].time, reverse=True)

    def tokenizers(self, limit: int) -> list[str]:
        """The newest tokenizers."""
        return [str(item.ref) for item in self._newest(limit, ("tokenizer",))]

    def tokenizer(self, ref: str) -> Path:
        """The files of an artifact that holds a tokenizer."""
        found, manifest = self._store.resolve(ref)
        if "tokenizer.json" not in manifest.all_files():
            raise UsageError(f"{found} holds no tokenizer", "kinds that do: tokenizer, base, mid, sft, rl")
        return self._store.checkout(manifest, Settings().views)

    def _newest(self, limit: int, kinds: tuple[str, ...] = ()) -> list[Listed]:
        found = [item for item in listing(self._store.backend) if not kinds or item.ref.kind in kinds]
        return sorted(found, key=lambda item: item.made, reverse=True)[:limit]

    def _headlines(self) -> dict[str, str]:
        """Ref -> the number that matters most, of every artifact."""
        return {str(item.ref): _row(item).metric for item in listing(self._store.backend)}

    def _run_url(self, run: Run) -> str:
        for stage in run.stages:
            with suppress(NanochatError):
                settings = self._store.resolve(stage.artifact)[1].provenance.settings
                if stage.status == "ran" and (address := _web_address(settings.get(RUN_URL))):
                    return address
        return ""

    def _trend(self, name: str, last: int) -> Trend | None:
        """None if nothing of it can be read: one damaged evaluation does not hide the others."""
        try:
            history = nights(self._store, ArtifactRef("eval", name, alias=LATEST), Settings().views, last)
        except NanochatError:
            return None
        shown = [
            Night(night.time, str(night.ref), night.model, [
                Measured(metric.task, metric.name, metric.value, metric.low, metric.high, metric.n)
                for metric in night.evaluation.metrics
            ])
            for night in history
        ]  # fmt: skip
        worse = [str(item) for item in regressions(history, bpb_tolerance=BPB_TOLERANCE)]
        return Trend(f"eval/{name}", shown, worse) if shown else None

    def _aliases(self, ref: ArtifactRef) -> list[str]:
        every = self._store.aliases(ref.kind, ref.name).items()
        return [text for text, alias in every if alias.version == ref.version]

    def _used_by(self, digest: str) -> list[Link]:
        """Children by digest: also of the same bytes under another name."""
        with self._lock:
            self._sql.refresh()
            answer = self._sql.query(_USED_BY, [digest])
        return [Link(role, child) for role, child in answer.rows]


def _row(item: Listed, metrics: Mapping[str, int | float | str] | None = None) -> Row:
    entry = item.entry
    metric = headline({entry.key_metric: entry.value}, entry.key_metric)
    return Row(str(item.ref), item.aliases, entry.created, entry.bytes, metric, metrics or {})


def _run_files() -> dict[str, Path]:
    """Id -> file of every run of this machine."""
    folder = Settings().runs
    return {path.stem: path for path in folder.glob("*.json")} if folder.is_dir() else {}


def _run(path: Path, about: Mapping[str, str]) -> Run | None:
    """A run's file; None if it is being written, or is none. ``about``: ref -> its headline."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        stages = [
            Stage(stage["stage"], stage["status"], stage["artifact"], stage["seconds"],
                  about.get(stage["artifact"], ""))
            for stage in run["stages"]
        ]  # fmt: skip
        params = {name: value for name, value in run["params"].items() if value not in ("", [], {}, None)}
        return Run(path.stem, run["name"], run["started"], run["seconds"], stages, _dotted(params))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


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
