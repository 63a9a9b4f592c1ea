"""What the artifacts of a run say, read from their folders into types; nothing is judged here.

Payload files are required and a broken one is refused by name. What lies under ``run/`` (times, host,
command) is told where it is known and left out where it is not.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifacts.errors import DataError
from artifacts.fingerprint import sha256_json
from nanochat.records import read_records

MODELS = ("base", "mid", "sft", "rl")
STAGES = ("shards", "tokenizer", "tokens", *(id for model in MODELS for id in (model, f"eval-{model}")))
MAX_HEADER_BYTES = 100_000_000  # what safetensors itself accepts
Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Metric:
    """One measured number; ``task`` is ``task/split``, or empty for a number about the whole model."""

    name: str
    task: str
    value: float
    n: int | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Sample:
    """A prompt and what the model made of it."""

    prompt: str
    text: str


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: its numbers, which problem was solved (task -> id -> correct), and samples."""

    metrics: tuple[Metric, ...]
    correct: Mapping[str, Mapping[str, bool]]
    samples: tuple[Sample, ...]

    def metric(self, name: str, task: str = "") -> Metric | None:
        """The metric of that name, or None if it was not measured."""
        return next((metric for metric in self.metrics if (metric.name, metric.task) == (name, task)), None)


@dataclass(frozen=True)
class Training:
    """One trained model: its size, what it read, and its course in (step, value)."""

    steps: int
    tokens: int
    parameters: int
    shape: Mapping[str, Any]
    val_metric: str
    train: Points
    val: Points


@dataclass(frozen=True)
class Split:
    """How much text one split holds."""

    shards: int = 0
    documents: int = 0
    text_bytes: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Process:
    """How one stage ran: never compared, never part of the results."""

    seconds: float | None = None
    tokens_per_second: float | None = None
    peak_bytes: float | None = None
    rewards: Points = ()
    compression: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """(text, tokenizer) -> bytes per token, of other tokenizers that this machine had"""
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """Everything the report is made from. Keys are stage ids."""

    digests: Mapping[str, str]
    source: str
    packages: int
    splits: Mapping[str, Split]
    compression: tuple[Mapping[str, Any], ...]
    trainings: Mapping[str, Training]
    evaluations: Mapping[str, Evaluation]
    processes: Mapping[str, Process]

    @classmethod
    def read(cls, inputs: Mapping[str, Path], *, samples: int) -> Evidence:
        """Read the folders of a run, by role; a stage that is not among them is left out.

        Raises DataError that names a file which is absent, or is not what its stage writes.
        """
        shards = _json(inputs["shards"] / "manifest.json") if "shards" in inputs else {}
        return cls(
            digests={role: payload_digest(inputs[role]) for role in STAGES if role in inputs},
            source=str(shards.get("source", "")),
            packages=len(shards.get("packages", {})),
            splits=_splits(shards, inputs.get("tokens")),
            compression=_compression(inputs.get("tokenizer")),
            trainings={model: _training(inputs[model]) for model in MODELS if model in inputs},
            evaluations={
                model: read_evaluation(inputs[f"eval-{model}"], samples)
                for model in MODELS
                if f"eval-{model}" in inputs
            },
            processes={role: _process(inputs[role] / "run") for role in STAGES if role in inputs},
        )


def payload_digest(folder: Path) -> str:
    """The artifact's digest, computed from its files as the store does; ``run/`` is not part of it."""
    entries = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] != "run":
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            entries.append([name.as_posix(), path.stat().st_size, digest])
    return sha256_json(sorted(entries))


def _splits(shards: dict[str, Any], tokens: Path | None) -> dict[str, Split]:
    counts: dict[str, Split] = {}
    for shard in shards.get("shards", []):
        split = counts.get(shard["split"], Split())
        written = _json(tokens / f"{Path(shard['path']).stem}.json")["tokens"] if tokens else 0
        counts[shard["split"]] = Split(
            split.shards + 1, split.documents + shard["rows"],
            split.text_bytes + shard["text_bytes"], split.tokens + written,
        )  # fmt: skip
    return counts


def _compression(tokenizer: Path | None) -> tuple[Mapping[str, Any], ...]:
    return tuple(_json(tokenizer / "compression.json").get("rows", ())) if tokenizer else ()


def _training(folder: Path) -> Training:
    losses, meta, shape = (_json(folder / f"{name}.json") for name in ("losses", "meta", "config"))
    return Training(
        steps=meta["steps"], tokens=meta["tokens"], shape=shape,
        parameters=_parameters(folder / "model.safetensors"),
        val_metric=losses["val_metric"], train=_points(losses["train"]), val=_points(losses["val"]),
    )  # fmt: skip


def _parameters(weights: Path) -> int:
    """How many numbers a safetensors file holds, from its header: 8 bytes of length, then JSON."""
    try:
        with weights.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, MAX_HEADER_BYTES)))
    except (OSError, ValueError) as error:
        raise DataError(f"{weights}: {error}", "not a safetensors file; rebuild the artifact") from error
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def read_evaluation(folder: Path, samples: int) -> Evaluation:
    """What an evaluation's folder says. Raises DataError if it is not what the stage writes."""
    results = _json(folder / "results.json")
    metrics = tuple(_metric(row) for row in results["metrics"])
    correct = {
        _task(*name.rsplit("/", 1)): {str(problem["id"]): bool(problem["correct"]) for problem in problems}
        for name, problems in results["problems"].items()
    }
    shown = (Sample(sample["prompt"], sample["text"]) for sample in results["samples"][:samples])
    return Evaluation(metrics, correct, tuple(shown))


def _metric(row: dict[str, Any]) -> Metric:
    name, task = row["name"].removeprefix("eval/"), _task(row["task"], row["split"])
    return Metric(name, task, row["value"], row["n"], row["ci_low"], row["ci_high"])


def _task(task: str | None, split: str | None) -> str:
    """``arithmetic/hard`` however the evaluation writes it: every problem is a held-out one."""
    return "/".join(part for part in (task, split) if part and part not in ("test", "val"))


def _points(pairs: list[list[float]]) -> Points:
    return tuple((int(step), float(value)) for step, value in pairs)


def _process(run: Path) -> Process:
    records = list(read_records(run / "records.jsonl"))

    def values(name: str) -> list[float]:
        return [record["value"] for record in records if record["name"] == name]

    speeds = sorted(values("train/tokens_per_second"))
    rewards = (
        (record["step"], record["value"])
        for record in records
        if record["name"] == "rl/reward" and record["step"] is not None
    )
    compression = {
        (record["split"], record["task"]): record["value"]
        for record in records
        if record["name"] == "tokenizer/bytes_per_token"
    }
    provenance = run / "provenance.json"
    return Process(
        seconds=max((record["elapsed_s"] for record in records), default=None),
        tokens_per_second=speeds[len(speeds) // 2] if speeds else None,
        peak_bytes=max(values("memory/peak_bytes"), default=None),
        rewards=tuple(rewards),
        compression=compression,
        provenance=_json(provenance) if provenance.exists() else {},
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}", "rebuild the artifact") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a JSON object", "rebuild the artifact")
    return value
