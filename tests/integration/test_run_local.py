"""``nanochat run tiny`` without a server: built once, then found; and what it says about itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from flows.dag import STAGE_IDS

Command = Callable[..., subprocess.CompletedProcess[str]]
TRAINED = ("base", "mid", "sft", "rl")


def lines(done: subprocess.CompletedProcess[str]) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Path -> (time of change, digest) of every file below ``folder``."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_second_run_finds_everything_and_changes_no_file(own_home: Path, nanochat: Command) -> None:
    before = contents(own_home / "store")
    again = lines(nanochat("run", "tiny", "--json", home=own_home))
    assert [(line["stage"], line["status"]) for line in again] == [(stage, "cached") for stage in STAGE_IDS]
    assert contents(own_home / "store") == before


def test_a_cached_run_loads_neither_prefect_nor_torch(own_home: Path) -> None:
    program = (
        "import sys; from flows.cli import main\n"
        "try: main(['run', 'tiny', '--json'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'prefect', 'torch', 'scipy', 'matplotlib'} & set(sys.modules)), file=sys.stderr)"
    )
    environment = {**os.environ, "NANOCHAT_HOME": str(own_home)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.strip() == "[]"


def test_a_forced_stage_runs_alone_and_says_what_it_waits_for(own_home: Path, nanochat: Command) -> None:
    done = nanochat("run", "tiny", "--force", "report", home=own_home)
    said = [" ".join(line.split()[:2]) for line in done.stderr.splitlines()]
    assert said[0] == "prefect starting"
    assert sorted(said[1:-2]) == sorted(f"{stage} cached" for stage in STAGE_IDS[:-1])
    assert said[-2:] == ["report running", "report ran"]


def test_the_plan_of_a_finished_run_is_all_cached(tiny_home: Path, nanochat: Command) -> None:
    plan = json.loads(nanochat("plan", "tiny", "--json", home=tiny_home).stdout)
    assert plan["preset"] == "tiny"
    assert [(item["stage"], item["status"]) for item in plan["stages"]] == [(s, "cached") for s in STAGE_IDS]
    assert all(item["artifact"].endswith("@v1") and item["reasons"] == [] for item in plan["stages"])


def test_a_setting_of_rl_would_run_rl_and_what_reads_it(tiny_home: Path, nanochat: Command) -> None:
    plan = json.loads(
        nanochat("plan", "tiny", "--set", "rl.temperature=0.9", "--json", home=tiny_home).stdout
    )
    status = {item["stage"]: item["status"] for item in plan["stages"]}
    assert {stage for stage, what in status.items() if what != "cached"} == {"rl", "eval-rl", "report"}
    (reason,) = next(item["reasons"] for item in plan["stages"] if item["stage"] == "rl")
    assert reason == {"what": "field", "name": "temperature", "old": 1.0, "new": 0.9}


def test_lineage_reaches_the_text_the_tokenizer_and_the_code(tiny_home: Path, nanochat: Command) -> None:
    lineage = json.loads(nanochat("art", "lineage", "report/tiny@v1", "--json", home=tiny_home).stdout)
    nodes = {node["ref"]: node for node in lineage["nodes"]}
    assert {"shards/tiny@v1", "tokenizer/tiny@v1", "tokens/tiny@v1", "rl/tiny@v1"} <= set(nodes)
    commits = {node["provenance"]["commit"] for node in nodes.values()}
    assert len(commits) == 1
    assert len(commits.pop()) == 40
    assert {"parent": "sft/tiny@v1", "child": "rl/tiny@v1", "role": "model"} in lineage["edges"]


@pytest.mark.parametrize("stage", TRAINED)
def test_training_ran_under_torchrun(stage: str, tiny_home: Path, nanochat: Command) -> None:
    shown = json.loads(nanochat("art", "show", f"{stage}/tiny@v1", "--json", home=tiny_home).stdout)
    settings = shown["provenance"]["settings"]
    assert settings["torchrun"], "no run id: the process was not started by torchrun"
    assert "torch.distributed.run" in settings["parent"]


def test_every_artifact_of_a_run_verifies(tiny_home: Path, nanochat: Command) -> None:
    nanochat("art", "verify", home=tiny_home)
