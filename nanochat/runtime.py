"""How a stage runs: its context, its summary, and the ``python -m nanochat.stages.NAME`` entry.

A stage is a function of folders: ``run(ctx, config) -> Summary``. Nothing in a stage asks whether a
notebook, torchrun, the command line or Prefect started it.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from artifacts.atomic import sync_directory, write_file
from artifacts.errors import DataError, NanochatError, UsageError
from artifacts.redact import redact_command
from nanochat.config.base import Config
from nanochat.heartbeat import Heartbeat
from nanochat.parent_death import die_with_parent

STOPPED_EXIT_CODE = 143  # SIGTERM arrived; the newest checkpoint was saved


@dataclass(frozen=True)
class StageContext:
    """Where a stage reads and writes.

    inputs: role -> read-only folder. output: empty folder for the payload. attempt: kept between
    attempts of the same fingerprint (checkpoints, records.jsonl, heartbeat). scratch: thrown away.
    """

    inputs: dict[str, Path]
    output: Path
    attempt: Path
    scratch: Path
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """True on the rank that writes files and records."""
        return self.rank == 0

    def beat(self, step: int, *, slow: bool = False) -> None:
        """Say that this rank has come to ``step``; ``slow``: what follows may take longer than a step."""
        self._heart.beat(step, slow=slow)

    @cached_property
    def _heart(self) -> Heartbeat:
        return Heartbeat(self.attempt / "heartbeat" / str(self.rank))


class Summary(BaseModel):
    """What a stage reports when it ends: numbers for tables, and which one matters most."""

    metrics: dict[str, float | int | str] = Field(default_factory=dict)
    key_metric: str = ""


class Job(BaseModel):
    """The file behind ``--job``: everything one stage process needs, as plain folders."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    schema_number: int = Field(1, alias="schema")
    stage: str
    config: dict[str, Any]
    inputs: dict[str, str]
    output: str
    attempt: str


def stage_main(stage: str, config_type: type[Config], run: Callable[[StageContext, Any], Summary]) -> None:
    """Entry of ``python -m nanochat.stages.NAME``: run one stage, write summary.json, exit.

    Exit codes: those of ``NanochatError`` (one line on stderr), 143 after SIGTERM, 1 otherwise. Under
    torchrun, whose own exit code is always 1, the reason stands in ``failure.json`` in the attempt.
    """
    gc.set_threshold(50_000, 20, 100)  # at Python's 700 objects, importing torch takes a seventh longer
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    attempt: Path | None = None
    try:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            die_with_parent(signal.SIGKILL, parent=os.getppid())
            faulthandler.register(
                signal.SIGUSR1
            )  # prints where every thread is, even of a process that hangs
        job = _read_job(stage, sys.argv[1:])
        config = _validate(config_type, job.config)
        context = _context(job, getattr(config, "seed", 0))
        attempt = context.attempt
        if context.is_main:
            _keep_identity(attempt, config)
            _write_json(attempt / "process.json", _process())
        summary = run(context, config)
        if context.is_main:
            # Whoever finds a summary may take the output for complete, so it must be on the disk.
            _sync_tree(context.output)
            _write_json(attempt / "summary.json", summary.model_dump())
    except NanochatError as error:
        print(f"error: {error}", file=sys.stderr)
        _explain_failure(attempt, error.exit_code, error.message, error.hint)
        raise SystemExit(error.exit_code) from None
    except SystemExit as end:
        if end.code == STOPPED_EXIT_CODE:
            _explain_failure(attempt, STOPPED_EXIT_CODE, "stopped", "")
        raise


def _keep_identity(attempt: Path, config: Config) -> None:
    """Remember what the attempt's checkpoints are of. DataError if that differs from ``config``, by field."""
    path, now = attempt / "identity.json", config.identity()
    if path.exists() and any((attempt / "checkpoints").glob("step-*")):
        before, after = (dict(_flat(values)) for values in (json.loads(path.read_text("utf-8")), now))
        changed = [
            f"{name} was {before.get(name)!r}, is {after.get(name)!r}"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]
        if changed:
            raise DataError(
                f"{attempt} holds checkpoints of another configuration: {'; '.join(changed)}",
                "set these back to resume it, or give an empty attempt folder",
            )
    _write_json(path, now)


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted paths and values; lists and tuples are one value."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(value, f"{name}.{key}" if name else key)
    else:
        yield name, list(values) if isinstance(values, tuple) else values


def _explain_failure(attempt: Path | None, exit_code: int, message: str, hint: str) -> None:
    if attempt is not None:
        _write_json(attempt / "failure.json", {"exit_code": exit_code, "message": message, "hint": hint})


def _process() -> dict[str, Any]:
    """Who started this process, for the provenance: torchrun or not, with how many ranks and threads."""
    parent = Path(f"/proc/{os.getppid()}/cmdline")
    arguments = parent.read_text(encoding="utf-8", errors="replace").split("\0") if parent.exists() else []
    return {
        "parent": redact_command([item for item in arguments if item]),
        "torchrun": os.environ.get("TORCHELASTIC_RUN_ID"),
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_file(path, json.dumps(value, allow_nan=False))


def _sync_tree(folder: Path) -> None:
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            with Path(here, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(here))


def _read_job(stage: str, argv: list[str]) -> Job:
    parser = argparse.ArgumentParser(prog=f"python -m nanochat.stages.{stage}")
    parser.add_argument("--job", type=Path, help="job.json written by the pipeline")
    parser.add_argument("--config", type=Path, help="JSON file with the stage's config")
    parser.add_argument("--input", action="append", default=[], metavar="ROLE=DIR")
    parser.add_argument("--output", type=Path, help="empty folder for what the stage makes")
    parser.add_argument("--attempt", type=Path, help="folder for checkpoints (default: OUTPUT.attempt)")
    arguments = parser.parse_args(argv)
    if arguments.job:
        return Job.model_validate_json(arguments.job.read_text(encoding="utf-8"))
    if not arguments.output:
        raise UsageError("--output is missing", "give an empty folder, or --job FILE")
    inputs = dict(item.split("=", 1) for item in arguments.input if "=" in item)
    if len(inputs) != len(arguments.input):
        raise UsageError(f"--input {arguments.input}", "write each as ROLE=DIR, each role once")
    config = json.loads(arguments.config.read_text(encoding="utf-8")) if arguments.config else {}
    attempt = arguments.attempt or arguments.output.with_name(arguments.output.name + ".attempt")
    return Job(stage=stage, config=config, inputs=inputs, output=str(arguments.output), attempt=str(attempt))


def _validate(config_type: type[Config], values: dict[str, Any]) -> Config:
    try:
        return config_type.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"config {where} = {first.get('input')!r}: {first['msg']}") from None


def _context(job: Job, seed: int) -> StageContext:
    output, attempt = Path(job.output), Path(job.attempt)
    rank, world_size = _rank(), int(os.environ.get("WORLD_SIZE", "1"))
    for folder in (output, attempt, attempt / "scratch"):
        folder.mkdir(parents=True, exist_ok=True)
    if rank == 0 and any(output.iterdir()):
        raise UsageError(f"output folder {output} is not empty", "give an empty folder")
    inputs = {role: Path(folder) for role, folder in job.inputs.items()}
    for role, folder in inputs.items():
        if not folder.is_dir():
            raise UsageError(f"input {role}={folder}: no such folder")
    return StageContext(inputs, output, attempt, attempt / "scratch", seed, rank, world_size)


def _rank() -> int:
    """This process's number among all of the stage. On several nodes, those of node 0 come first.

    torchrun numbers the nodes by their addresses, but the attempt and the output are node 0's.
    """
    if first := os.environ.get("NANOCHAT_FIRST_RANK"):
        return int(first) + int(os.environ["LOCAL_RANK"])
    return int(os.environ.get("RANK", "0"))
