"""A stage that does what its config says: for tests of the machinery around stages."""

from __future__ import annotations

import os
import signal
import sys
import time

from pydantic import Field

from artifacts.errors import DataError
from nanochat.config.base import Config, runtime_field
from nanochat.records import RecordWriter
from nanochat.runtime import StageContext, Summary, stage_main

VERSION = 1


class FakeConfig(Config):
    """What to write, and how to end."""

    text: str = "payload"
    lines: list[str] = runtime_field([])
    ending: str = runtime_field("well")
    pid_file: str = runtime_field("")
    shards: list[str] = Field(default_factory=list)


def _wait_for_sigterm() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    while True:
        time.sleep(0.05)  # a long sleep is not woken by a signal that comes just before it


def run(ctx: StageContext, config: FakeConfig) -> Summary:
    for line in config.lines:
        print(line)
    if config.pid_file:
        with open(config.pid_file, "a") as file:
            file.write(f"{os.getpid()}\n")
    records = RecordWriter(ctx.attempt / "records.jsonl", "base")
    for step in range(3):
        records.write("train/loss", 3.0 - step, step=step)
    if config.ending == "bad data":
        raise DataError("shard_00000.parquet: row group 2 is corrupt", "download it again")
    if config.ending == "bug":
        raise ZeroDivisionError("an ordinary bug")
    if config.ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.ending == "hangs":
        time.sleep(60)
    if config.ending == "stops beating":
        ctx.beat(3)
        time.sleep(60)
    if config.ending == "sleeps":
        time.sleep(2)
    if config.ending == "saves":
        _wait_for_sigterm()
    seen = " ".join(sorted(path.name for folder in ctx.inputs.values() for path in folder.iterdir()))
    for name in config.shards or ["payload"]:
        (ctx.output / f"{name}.txt").write_text(f"{config.text} {seen}")
    return Summary(metrics={"bytes": len(config.text), "loss": 1.0}, key_metric="loss")


if __name__ == "__main__":
    stage_main("fake", FakeConfig, run)
