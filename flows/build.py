"""Build one stage, or find that it is built: fingerprint → lookup → check, else lease → launch → commit.

The store alone decides. Storage errors raise; they are never taken for "not built yet".
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifacts.atomic import disk_errors, write_file
from artifacts.errors import DataError, UsageError
from artifacts.fingerprint import sha256_json
from artifacts.lease import Lease
from artifacts.manifest import Draft, Manifest, Parent
from artifacts.metrics import publish_metrics, records_of
from artifacts.provenance import collect
from artifacts.redact import redact_text
from artifacts.ref import ArtifactRef
from artifacts.store import Store
from flows import launch
from flows.dag import Stage
from flows.identity import stage_recipe
from flows.mirror import mirrored
from flows.observe import Observer
from flows.result import StageResult, result_of
from flows.settings import PROJECT_ROOT, Settings
from nanochat.config.base import Config

Inputs = Mapping[str, StageResult]
_KEPT = ("log.txt", "records.jsonl", "summary.json", "process.json")


@dataclass(frozen=True)
class Work:
    """One artifact to build. ``name`` None: a part that is found by its fingerprint alone."""

    stage: Stage
    config: Config
    inputs: Inputs
    name: str | None
    recipe: dict[str, Any]
    folders: Mapping[str, StageResult] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """What the store is asked for."""
        return sha256_json(self.recipe)


@dataclass(frozen=True)
class Builder:
    """Builds stages of one run into one store."""

    store: Store
    settings: Settings
    configs: Mapping[str, Config]
    name: str
    ranks: int = 1
    overlap: bool = False
    depth: int = 0
    forced: frozenset[str] = frozenset()
    reuse: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)

    def work(self, stage: Stage, inputs: Inputs) -> Work:
        """What it would take to build a stage of the pipeline."""
        config = self.configs[stage.id]
        digests = {role: result.digest for role, result in inputs.items()}
        name = stage.artifact(self.name).partition("/")[2]
        return Work(stage, config, inputs, name, stage_recipe(stage, config, digests))

    def find(self, work: Work, *, publish: bool = True) -> StageResult | None:
        """The finished artifact, checked, or None if it has to be built.

        ``publish``: it also gets its name, should a crash or another run's name have left it without.
        """
        started = time.monotonic()
        if work.stage.id in self.reuse:
            return self._reused(work, started)
        if work.stage.id in self.forced:
            return None
        manifest = self.store.lookup(work.stage.id, work.fingerprint)
        if manifest is None:
            return None
        self.store.check(manifest)
        ref = ""
        if work.name:
            ref = str(self.store.name(manifest, work.name) if publish else _ref(manifest, work.name))
        seconds = time.monotonic() - started
        return result_of(manifest, "cached", ref, seconds=seconds, drifted=_drifted(work.inputs))

    def build(self, work: Work, observer: Observer, parts: list[StageResult] | None = None) -> StageResult:
        """The artifact of ``work``, built if need be; of two that want it at once, one builds.

        ``parts``: finished pieces to put together instead of running the stage's program.
        """

        def warn(text: str) -> None:
            observer.log(work.stage.id, text, True)

        started = time.monotonic()
        if found := self.find(work):
            return found
        with self._lease(work, observer) as lease:
            if found := self.find(work):
                return found
            attempt = self._attempt(work)
            with mirrored(self.store, lease, work.fingerprint, attempt, warn):
                if not (attempt / "summary.json").exists():
                    if parts is None:
                        self._launch(work, attempt, observer, lease)
                    else:
                        self._combine(parts, attempt)
                result = self._commit(work, attempt, lease, time.monotonic() - started)
            self.store.drop_attempt(work.fingerprint)
            return result

    def checkout(self, result: StageResult) -> Path:
        """A read-only folder of a result's artifact, every byte verified."""
        return self.store.checkout(self.store.manifest(result.pointer), self.settings.views)

    def _reused(self, work: Work, started: float) -> StageResult:
        wanted = self.reuse[work.stage.id] or work.stage.artifact(self.name)
        ref, manifest = self.store.resolve(wanted)
        if manifest.kind != work.stage.kind:
            raise UsageError(
                f"--reuse {work.stage.id}={ref}", f"it takes an artifact of kind {work.stage.kind}"
            )
        self.store.check(manifest)
        drifted = _drifted(work.inputs)
        if manifest.fingerprint != work.fingerprint:
            drifted = sorted({*drifted, str(ref)})
        seconds = time.monotonic() - started
        result = result_of(manifest, "cached", str(ref), seconds=seconds, note="reused", drifted=drifted)
        return result.model_copy(update={"stage": work.stage.id})  # whatever stage made it, or none

    @contextmanager
    def _lease(self, work: Work, observer: Observer) -> Iterator[Lease]:
        lease = Lease(self.store, f"{work.stage.id}/{work.fingerprint}")
        waiting = False
        while not lease.acquire(block=False):
            if not waiting:
                observer.started(work.stage.id, "waiting for another run that builds the same")
                waiting = True
            launch.STOP.check()
            time.sleep(0.3)
        try:
            yield lease
        finally:
            lease.release()

    def _attempt(self, work: Work) -> Path:
        """The attempt's folder: with a whole output that only lacks its commit, or an empty one."""
        if work.stage.id in self.forced:
            self.store.drop_attempt(work.fingerprint)
        attempt = self.store.attempt_dir(work.fingerprint)
        if not (attempt / "summary.json").exists():
            with disk_errors(attempt):
                shutil.rmtree(attempt / "output", ignore_errors=True)
                (attempt / "output").mkdir()
        return attempt

    def _launch(self, work: Work, attempt: Path, observer: Observer, lease: Lease) -> None:
        stage, process = work.stage, self.process(work, attempt)
        observer.started(stage.id, "resuming" if (attempt / "log.txt").exists() else "running")

        def tick() -> None:
            _ = lease.fence  # raises LeaseLost, which ends the process
            observer.tick(stage.id, attempt / "records.jsonl")

        launch.run(
            process,
            log=lambda text, urgent: observer.log(stage.id, text, urgent),
            tick=tick,
        )
        if not (attempt / "summary.json").exists():
            raise DataError(f"stage {stage.id} ended without a summary", f"its log: {attempt / 'log.txt'}")
        observer.ended(stage.id, attempt / "records.jsonl")

    def process(self, work: Work, attempt: Path) -> launch.Job:
        """What runs a stage's program in ``attempt``; its inputs are checked out and its job.json written."""
        inputs = {role: str(self.checkout(result)) for role, result in (work.folders or work.inputs).items()}
        job = {
            "schema": 1, "stage": work.stage.id, "config": work.config.model_dump(mode="json"),
            "inputs": inputs, "output": str(attempt / "output"), "attempt": str(attempt),
        }  # fmt: skip
        write_file(attempt / "job.json", json.dumps(job))
        return launch.Job(
            work.stage.id, work.stage.module, attempt, work.stage.torchrun, self.ranks, self.overlap,
            self.settings.stage_timeout_s, self.settings.hang_s,
        )  # fmt: skip

    def _combine(self, parts: list[StageResult], attempt: Path) -> None:
        """Put the files of finished parts into one folder, and add up their metrics."""
        metrics: dict[str, float] = {}
        with disk_errors(attempt):
            for part in parts:
                manifest, view = self.store.manifest(part.pointer), self.checkout(part)
                for entry in manifest.files:
                    target = attempt / "output" / entry.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.hardlink_to(view / entry.path)
                for name, value in part.metrics.items():
                    if isinstance(value, int):
                        metrics[name] = metrics.get(name, 0) + value
        key = parts[0].key_metric if parts and parts[0].key_metric in metrics else ""
        write_file(attempt / "summary.json", json.dumps({"metrics": metrics, "key_metric": key}))

    def _commit(self, work: Work, attempt: Path, lease: Lease, seconds: float) -> StageResult:
        summary = _read_json(attempt / "summary.json")
        drifted = _drifted(work.inputs)
        settings = _read_json(attempt / "process.json") | ({"reused": drifted} if drifted else {})
        settings |= self.origin
        draft = Draft(
            stage=work.stage.id, kind=work.stage.kind, fingerprint=work.fingerprint, recipe=work.recipe,
            parents=tuple(_parent(role, result) for role, result in work.inputs.items()),
            metrics=summary.get("metrics", {}), key_metric=summary.get("key_metric", ""),
            provenance=collect(PROJECT_ROOT, settings=settings),
        )  # fmt: skip
        before = self.answer(work)
        published = self.store.commit(
            draft, attempt / "output", _run_folder(attempt), name=work.name, lease=lease,
            replace_fingerprint=work.stage.id in self.forced, take=True,
        )  # fmt: skip
        made = published.manifest
        publish_metrics(self.store, made, published.ref, records_of(self.store, made))
        return self.made(work, made, published.ref, before, seconds)

    def made(
        self, work: Work, manifest: Manifest, ref: ArtifactRef | None, before: Manifest | None, seconds: float
    ) -> StageResult:
        """The result of a build that took ``seconds``; of a forced one, also what became of ``before``."""
        name = str(ref or "")
        note = "" if before is None else "identical" if before.digest == manifest.digest else f"now {name}"
        return result_of(manifest, "ran", name, seconds=seconds, note=note, drifted=_drifted(work.inputs))

    def answer(self, work: Work) -> Manifest | None:
        """What a forced build is about to replace, None if nothing; a damaged answer counts as nothing."""
        if work.stage.id not in self.forced:
            return None
        try:
            return self.store.lookup(work.stage.id, work.fingerprint)
        except DataError:
            return None


def _ref(manifest: Manifest, name: str) -> ArtifactRef:
    return ArtifactRef(manifest.kind, name, digest=manifest.digest)


def _parent(role: str, result: StageResult) -> Parent:
    ref = result.artifact or f"{result.stage}@sha256:{result.digest[:12]}"
    return Parent(role=role, ref=ref, digest=result.digest, manifest=result.manifest)


def _drifted(inputs: Inputs) -> list[str]:
    return sorted({ref for result in inputs.values() for ref in result.drifted})


def _run_folder(attempt: Path) -> Path:
    """Beside the payload goes what tells how it was made: log, records, summary; without secrets."""
    folder = attempt / "run"
    with disk_errors(attempt):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in _KEPT:
            if (attempt / name).exists():
                text = (attempt / name).read_text(encoding="utf-8", errors="replace")
                (folder / name).write_text(redact_text(text), encoding="utf-8")
    return folder


def _read_json(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(value, dict):
        raise DataError(f"{path} is not a JSON object")
    return value
