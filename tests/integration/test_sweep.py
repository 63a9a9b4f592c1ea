"""A real sweep of two models: one fails, the other is kept, and the same command goes on from there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
SWEEP = ("sweep", "tiny", "--depths", "2", "3", "--set", "tokens_per_parameter=0.4", "--name", "series")
FILES = {"sweep.json", "sweep.csv", "sweep.html", "sweep.png"}


def statuses(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Artifact -> ran or cached, of what a run said on the way."""
    words = (line.split() for line in done.stderr.splitlines())
    return {said[5]: said[1] for said in words if len(said) > 5 and said[1] in ("ran", "cached")}


@pytest.fixture
def failed(own_home: Path, nanochat: Command, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """The sweep with a fault that only the longer training reaches: d2 takes 32 steps, d3 84."""
    fault = tmp_path / "fault"
    fault.write_text("base 50")
    done = nanochat(*SWEEP, home=own_home, rc=1, NANOCHAT_FAULT_FILE=str(fault))
    fault.unlink()
    return done


def test_a_sweep_loses_nothing_to_a_model_that_fails(
    failed: subprocess.CompletedProcess[str], own_home: Path, nanochat: Command, tmp_path: Path
) -> None:
    assert "1 of 2 failed: d3: stage base: a planned fault at step 50" in failed.stderr
    assert statuses(failed)["base/series-d2@v1"] == "ran"

    again = nanochat(*SWEEP, "--json", home=own_home)
    assert statuses(again) == {
        "shards/series@v1": "cached", "tokenizer/series@v1": "cached", "tokens/series@v1": "cached",
        "base/series-d2@v1": "cached", "base/series-d3@v1": "ran", "report/series-sweep@v1": "ran",
    }  # fmt: skip
    found = json.loads(again.stdout)
    assert [(point["role"], point["steps"]) for point in found["points"]] == [("d2", 32), ("d3", 84)]
    assert found["laws"]["loss"]["low"] < found["laws"]["loss"]["high"]
    sql = "SELECT value FROM metrics WHERE artifact = 'base/series-d3@v1' AND name = 'stage/start'"
    starts = json.loads(nanochat("metrics", f"{sql} ORDER BY time", "--json", home=own_home).stdout)
    assert [row["value"] for row in starts] == [0, 48], "it goes on from its last checkpoint"

    third = nanochat(*SWEEP, "--json", home=own_home)
    assert "prefect" not in third.stderr
    assert set(statuses(third).values()) == {"cached"}
    assert json.loads(third.stdout) == {**found, "status": "cached"}

    nanochat("art", "get", "report/series-sweep", str(tmp_path / "got"), home=own_home)
    assert {path.name for path in (tmp_path / "got").iterdir()} == {*FILES, "run"}
    assert Path(found["page"]).read_bytes() == (tmp_path / "got" / "sweep.html").read_bytes()
    lineage = json.loads(nanochat("art", "lineage", "report/series-sweep", "--json", home=own_home).stdout)
    parents = {edge["role"]: edge["parent"] for edge in lineage["edges"] if edge["child"] == lineage["root"]}
    assert parents == {"tokens": "tokens/series@v1", "d2": "base/series-d2@v1", "d3": "base/series-d3@v1"}
