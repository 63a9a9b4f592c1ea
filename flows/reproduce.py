"""Build an artifact again in a fresh place, with all that it was made from, and compare digests.

What is built follows the manifests alone: each stage's recorded config and parents, not the command line
of then. A stage that comes out otherwise ends it, because what follows could not be equal.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts import layout
from artifacts.diff import differences
from artifacts.errors import UsageError
from artifacts.manifest import Manifest
from artifacts.names import Pointer
from artifacts.paths import safe_join
from artifacts.ref import ArtifactRef
from artifacts.store import Store
from flows.build import Builder, Work
from flows.dag import STAGE_IDS, stage_by_id
from flows.identity import stage_recipe
from flows.observe import Observer
from flows.result import StageResult, result_of
from flows.settings import Settings
from nanochat.config.base import Config
from nanochat.config.pipeline import stage_configs, validated

# Differ from run to run, or decide no byte.
_IRRELEVANT = ("commit", "dirty", "command", "hardware.cores", "settings.parent", "settings.torchrun",
               "settings.reused")  # fmt: skip


@dataclass(frozen=True)
class Rebuilt:
    """One stage, then and now. ``explains``: what differs besides the bytes and may be why they do."""

    stage: str
    artifact: str
    recorded: str
    rebuilt: str
    equal: bool
    seconds: float
    explains: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Reproduction:
    """How to rebuild artifacts of ``store`` in the folder ``place``. ``keep_inputs``: only the last stage."""

    store: Store
    place: Path
    overrides: Mapping[str, Any]
    keep_inputs: bool = False

    def run(self, ref: str, observer: Observer) -> Iterator[Rebuilt]:
        """Rebuild what ``ref`` means, oldest ancestor first; the last one yielded is the first to differ.

        Raises UsageError for what no stage made, such as adopted data.
        """
        found, root = self.store.resolve(ref)
        if not _has_recipe(root):
            raise UsageError(f"{found} was not made by a stage", "it can be verified, but not rebuilt")
        place = Store.open(str(self.place / "store"))
        if place.backend.url == self.store.backend.url:
            raise UsageError(f"{self.place} is where the artifact is kept", "name another folder")
        done: dict[str, StageResult] = {}
        inputs_of_root = {parent.manifest for parent in root.parents}
        for name, manifest in _oldest_first(self.store, str(found), root):
            if self.keep_inputs and manifest is not root and manifest.hex not in inputs_of_root:
                continue
            if not _has_recipe(manifest) or (self.keep_inputs and manifest is not root):
                done[manifest.hex] = self._take(place, name, manifest)
                continue
            inputs = {parent.role: done[parent.manifest] for parent in manifest.parents}
            rebuilt, done[manifest.hex] = self._rebuild(place, name, manifest, inputs, observer)
            yield rebuilt
            if not rebuilt.equal:
                return

    def _rebuild(
        self, place: Store, name: str, manifest: Manifest, inputs: dict[str, StageResult], observer: Observer
    ) -> tuple[Rebuilt, StageResult]:
        started = time.monotonic()
        stage, config = stage_by_id(manifest.stage), self._config(manifest)
        recipe = stage_recipe(stage, config, {role: result.digest for role, result in inputs.items()})
        artifact = _name(name)
        then = manifest.provenance.settings
        settings = Settings().model_copy(update={"home": self.place})
        builder = Builder(place, settings, {}, artifact, ranks=int(then.get("world_size") or 1))
        with _threads(then.get("threads")):
            result = builder.build(Work(stage, config, inputs, artifact, recipe), observer)
        observer.finished(result)
        again = place.manifest(result.pointer)
        equal = again.digest == manifest.digest or (
            manifest.kind == "report" and self._results(self.store, manifest) == self._results(place, again)
        )
        found = differences(manifest, again)
        explains = {**found["code"], **found["config"], **found["provenance"]}
        rebuilt = Rebuilt(
            stage.id, name, manifest.digest, again.digest, equal, round(time.monotonic() - started, 1),
            {key: pair for key, pair in explains.items() if key not in _IRRELEVANT},
        )  # fmt: skip
        return rebuilt, result

    def _config(self, manifest: Manifest) -> Config:
        """The recorded config. Fields that decide no byte were not recorded; ``overrides`` may set them."""
        prefix = f"{manifest.stage}."
        own = {
            key.removeprefix(prefix): value for key, value in self.overrides.items() if key.startswith(prefix)
        }
        kind, recorded = stage_configs()[manifest.stage], manifest.recipe["config"]
        config: Config = validated(prefix, kind, recorded | own)
        if own and config.identity() != validated(prefix, kind, recorded).identity():
            hint = "set only fields that decide no byte, such as where data is"
            raise UsageError(f"--set {prefix}{min(own)} makes another artifact than the recorded one", hint)
        return config

    def _take(self, place: Store, name: str, manifest: Manifest) -> StageResult:
        """Copy an artifact that is not rebuilt."""
        view = self.store.checkout(manifest, self.place / "views")
        for path, entry in manifest.all_files().items():
            place.backend.upload(layout.blob(entry.sha256), safe_join(view, path), sha256=entry.sha256)
        place.backend.put_new(layout.manifest(manifest.hex), manifest.to_bytes())
        return result_of(manifest, "cached", name, seconds=0.0)

    def _results(self, store: Store, manifest: Manifest) -> Any:
        """What is compared of a report: the rest of it tells how long things took."""
        view = store.checkout(manifest, self.place / "views")
        return json.loads((view / "report.json").read_text(encoding="utf-8"))["results"]


def _oldest_first(store: Store, ref: str, root: Manifest) -> Iterator[tuple[str, Manifest]]:
    """(ref as recorded, manifest) of the ancestors and then of ``root``, each once, after its parents."""
    seen: set[str] = set()

    def visit(ref: str, manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
        if manifest.hex in seen:
            return
        seen.add(manifest.hex)
        for parent in manifest.parents:
            yield from visit(parent.ref, store.manifest(Pointer.to_parent(parent)))
        yield ref, manifest

    yield from visit(ref, root)


def _has_recipe(manifest: Manifest) -> bool:
    return manifest.stage in STAGE_IDS and "config" in manifest.recipe


def _name(ref: str) -> str:
    """The name in a recorded ref; one without a name gets this one."""
    try:
        return ArtifactRef.parse(ref).name
    except UsageError:
        return "reproduced"


@contextmanager
def _threads(recorded: Any) -> Iterator[None]:
    """Within, stages run with as many threads as then: sums in another order differ in the last bit."""
    before = os.environ.get("OMP_NUM_THREADS")
    if recorded:
        os.environ["OMP_NUM_THREADS"] = str(recorded)
    try:
        yield
    finally:
        if recorded:
            os.environ.pop("OMP_NUM_THREADS")
            if before is not None:
                os.environ["OMP_NUM_THREADS"] = before
