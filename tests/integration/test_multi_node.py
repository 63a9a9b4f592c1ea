"""Two nodes that share a store: they train what one does, and go on after a fault with one checkpoint."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifacts.store import Store
from flows.dag import until
from flows.observe import Observer
from flows.params import PipelineParams
from flows.run import open_builder
from nanochat.records import read_records

STEPS, FAULT_AT = 12, 7
SET = {"nproc": 2, "micro_batch": 2, "base.steps": STEPS, "base.log_every": 1}
RUN = ["run", "tiny", "--until", "base", *(f"--set={key}={value}" for key, value in SET.items())]


class Node:
    """One machine: a home folder and an address of its own, and the store of all."""

    def __init__(self, rank: int, home: Path, store: Path, port: int) -> None:
        self.home = home
        self._environment = {
            **os.environ, "NANOCHAT_HOME": str(home), "NANOCHAT_STORE": str(store), "OMP_NUM_THREADS": "1",
            "PREFECT_HOME": str(home / "prefect"), "GLOO_SOCKET_IFNAME": "lo", "NANOCHAT_NODES": "2",
            "NANOCHAT_NODE_RANK": str(rank), "NANOCHAT_RENDEZVOUS": f"127.0.0.1:{port}",
            "NANOCHAT_NODE_ADDRESS": f"127.0.0.{2 - rank}",  # so torchrun counts node 1 first
            "NANOCHAT_NODE_PATIENCE_S": "3000",
        }  # fmt: skip

    def start(self, **more: str) -> subprocess.Popen[str]:
        program = str(Path(sys.executable).with_name("nanochat"))
        return subprocess.Popen(
            [program, *RUN], env={**self._environment, **more}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def trained(store: Path, home: Path) -> tuple[str, dict[int, float], int]:
    """Of the newest base model: its digest, its losses by step, and how many attempts it took."""
    opened = Store.open(str(store), create=False)
    _, manifest = opened.resolve("base/tiny")
    records = list(read_records(opened.checkout(manifest, home / "views") / "run" / "records.jsonl"))
    losses = [(record["step"], record["value"]) for record in records if record["name"] == "train/loss"]
    assert len(losses) == len(dict(losses))
    return manifest.digest, dict(losses), max(record["attempt"] for record in records)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Where the home of node 0 will be."""
    return tmp_path / "first"


@pytest.fixture
def on_one_node(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same training by two processes of one machine; what it started from is left for the two nodes."""
    home = tmp_path / "alone"
    monkeypatch.setenv("NANOCHAT_HOME", str(home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    builder, made = open_builder(PipelineParams(preset="tiny", set=SET)), {}
    for stage in until("base"):
        if stage.torchrun:
            shutil.copytree(home, prepared, symlinks=True)
        inputs = {role: made[source] for role, source in stage.inputs.items()}
        made[stage.id] = builder.build(builder.work(stage, inputs), Observer())
    return trained(home / "store", home)


def test_two_nodes_train_what_one_does_also_after_a_fault(
    on_one_node: Any, prepared: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store, fault = prepared / "store", tmp_path / "fault"
    fault.write_text(f"base {FAULT_AT}")
    first, second = Node(0, prepared, store, port), Node(1, tmp_path / "second", store, port)
    with second.start() as joining:
        try:
            with first.start(NANOCHAT_FAULT_FILE=str(fault)) as failing:
                said = failing.communicate(timeout=300)[0]
            assert (failing.returncode, f"a planned fault at step {FAULT_AT}" in said) == (1, True), said
            assert joining.poll() is None, joining.communicate()[0]
            with first.start() as resuming:
                said = resuming.communicate(timeout=300)[0]
            assert resuming.returncode == 0, said
            said = joining.communicate(timeout=120)[0]
            assert (joining.returncode, said.count("takes part as node 1")) == (0, 2), said
        finally:
            joining.kill()
    digest, losses, attempts = trained(store, prepared)
    assert (digest, losses) == on_one_node[:2]
    assert (sorted(losses), attempts) == (list(range(1, STEPS + 1)), 2)
    assert list((second.home / "nodes" / "1").iterdir()) == []
    assert not any((store / "attempts").iterdir())
