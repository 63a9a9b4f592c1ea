"""A machine is lost with its disk in the middle of training: another goes on from the bucket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts import layout
from artifacts.store import Store

pytestmark = pytest.mark.needs("weed")
Command = Callable[..., subprocess.CompletedProcess[str]]
TO_BASE = ("run", "tiny", "--until", "base", "--json")


@pytest.fixture(scope="module")
def bucket(weed: dict[str, str]) -> dict[str, str]:
    """What names the store to every machine."""
    return {**weed, "NANOCHAT_STORE": f"s3://nanochat-tests/{uuid.uuid4().hex[:12]}"}


@pytest.fixture
def store(bucket: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    return Store.open()


def attempts(store: Store) -> list[str]:
    return [info.key for info in store.backend.list("attempts/")]


def base_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return next(line for line in lines if line["stage"] == "base")


def starts(nanochat: Command, home: Path, artifact: str, bucket: dict[str, str]) -> list[float]:
    """The steps at which each attempt at a model began."""
    sql = f"SELECT value FROM metrics WHERE artifact = '{artifact}' AND name = 'stage/start' ORDER BY time"
    return [
        row["value"] for row in json.loads(nanochat("metrics", sql, "--json", home=home, **bucket).stdout)
    ]


def test_another_machine_ends_as_if_nothing_had_happened(
    store: Store, bucket: dict[str, str], nanochat: Command, own_home: Path, tmp_path: Path
) -> None:
    fault = tmp_path / "fault"
    fault.write_text("base 5")
    save = ("--set", "base.checkpoint_every=2")  # and before the evaluation at step 3
    where = {**bucket, "NANOCHAT_FAULT_FILE": str(fault)}
    failed = nanochat(*TO_BASE, *save, home=tmp_path / "first", rc=1, **where)
    assert "a planned fault at step 5" in failed.stderr
    assert max(layout.snapshot_of(key).step for key in attempts(store)) == 4

    done = nanochat(*TO_BASE, *save, home=tmp_path / "second", **bucket)
    assert starts(nanochat, tmp_path / "second", "base/tiny@v1", bucket) == [0, 4]
    assert attempts(store) == []
    undisturbed = nanochat(*TO_BASE, home=own_home, NANOCHAT_STORE="")
    assert base_of(done)["digest"] == base_of(undisturbed)["digest"]
    assert store.verify() == []


@pytest.mark.criterion("T95")
def test_a_machine_that_is_gone_at_once_leaves_what_it_had_sent(
    store: Store, bucket: dict[str, str], nanochat: Command, tmp_path: Path
) -> None:
    asked = [*TO_BASE, "--set", "base.steps=200", "--set", "base.eval_every=200"]
    asked += ["--set", "base.checkpoint_every=10", "--name", "gone"]
    program = Path(sys.executable).with_name("nanochat")
    environment = {**os.environ, **bucket, "NANOCHAT_HOME": str(tmp_path / "first")}
    run = subprocess.Popen(
        [program, *asked], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 300
        while not any(key.endswith(".json") and key.count("/") == 2 for key in attempts(store)):
            assert run.poll() is None, run.stderr and run.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        run.send_signal(signal.SIGKILL)
        run.communicate()
    nanochat(*asked, home=tmp_path / "second", **bucket)
    first, second = starts(nanochat, tmp_path / "second", "base/gone@v1", bucket)
    assert (first, second % 10) == (0, 0)
    assert second >= 10
    assert attempts(store) == []
