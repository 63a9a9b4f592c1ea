"""Typed measurement records: one JSON object a line, append-only, the only source of numbers.

Plots, tables, Prefect artifacts and trackers are views of these lines. A name that is not declared
here is refused, so that a unit and a direction exist for everything that is ever shown.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from artifacts.errors import DataError

SCHEMA = 1
Kind = Literal["metric", "event", "sample", "eval"]


@dataclass(frozen=True)
class Name:
    """What a record name means: its unit, and whether more is better (+1), worse (-1) or neither (0)."""

    unit: str
    direction: int
    what: str


NAMES: dict[str, Name] = {
    "stage/start": Name("", 0, "an attempt of the stage began or resumed"),
    "stage/end": Name("", 0, "the stage finished"),
    "stage/progress": Name("fraction", 0, "done share of the stage, 0 to 1"),
    "train/loss": Name("nats/token", -1, "training loss of one step"),
    "train/lr": Name("multiplier", 0, "learning-rate multiplier of the schedule"),
    "train/grad_norm": Name("", 0, "global gradient norm before the step"),
    "train/tokens_per_second": Name("tokens/s", 1, "training throughput since the last record"),
    "train/mfu": Name("fraction", 1, "share of the GPUs' peak that the model's FLOPs take"),
    "train/skipped_steps": Name("steps", -1, "steps skipped as float16 gradients overflowed"),
    "val_bpb": Name("bits/byte", -1, "validation bits per byte"),
    "val_loss": Name("nats/token", -1, "validation loss on supervised tokens"),
    "checkpoint/saved": Name("", 0, "a checkpoint was published"),
    "memory/peak_bytes": Name("bytes", -1, "peak resident memory of the stage's process"),
    "data/rows": Name("rows", 0, "documents written"),
    "data/tokens": Name("tokens", 0, "tokens written"),
    "data/bytes": Name("bytes", 0, "UTF-8 bytes of text"),
    "tokenizer/bytes_per_token": Name("bytes/token", 1, "compression on held-out text"),
    "rl/reward": Name("reward", 1, "mean reward of the sampled answers of one step"),
    "rl/answer_tokens": Name("tokens", 0, "mean sampled answer length"),
    "eval/accuracy": Name("fraction", 1, "share of problems solved"),
    "eval/token_f1": Name("fraction", 1, "mean token F1 against the reference answer"),
    "eval/ended": Name("fraction", 1, "share of answers that end by themselves"),
    "eval/named": Name("fraction", 1, "share of answers that end and name the object asked for"),
    "sample/text": Name("", 0, "a generated sample"),
}


class RecordWriter:
    """Appends records to ``path``; one writer a stage attempt. Time is injected for tests."""

    def __init__(self, path: Path, stage: str, *, now: Any = time.time) -> None:
        self.path, self.stage, self._now = path, stage, now
        previous = list(read_records(path)) if path.exists() else []
        self.attempt = 1 + max((record["attempt"] for record in previous), default=0)
        self._elapsed_before = max((record["elapsed_s"] for record in previous), default=0.0)
        self._start = now()
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(
        self,
        name: str,
        value: float | str | dict[str, Any],
        *,
        kind: Kind = "metric",
        step: int | None = None,
        tokens: int | None = None,
        n: int | None = None,
        ci: tuple[float, float] | None = None,
        split: str | None = None,
        task: str | None = None,
    ) -> None:
        """Append one record. Raises KeyError for an undeclared name, ValueError for NaN or Inf."""
        if name not in NAMES:
            raise KeyError(f"record name {name!r} is not declared in nanochat/records.py")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"record {name} = {value}: not finite")
        now = self._now()
        record = {
            "v": SCHEMA, "kind": kind, "stage": self.stage, "attempt": self.attempt, "step": step,
            "tokens": tokens, "elapsed_s": round(self._elapsed_before + now - self._start, 3),
            "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
            "name": name, "value": value, "n": n,
            "ci_low": ci[0] if ci else None, "ci_high": ci[1] if ci else None,
            "split": split, "task": task,
        }  # fmt: skip
        line = json.dumps(record, ensure_ascii=True, allow_nan=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rewind(self, step: int, remeasured: str = "") -> None:
        """On resume: drop records after ``step`` (and a torn last line), so keys stay unique.

        ``remeasured`` names the record that will be measured again at ``step`` itself.
        """
        kept = [
            r
            for r in read_records(self.path)
            if r["step"] is None or r["step"] < step or (r["step"] == step and r["name"] != remeasured)
        ]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")
        os.replace(temporary, self.path)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of ``path`` in order; a torn last line (killed writer) is ignored."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            if number == len(lines):
                return
            raise DataError(f"{path}: line {number} is not a JSON record") from None
