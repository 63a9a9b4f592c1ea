"""The stage: the file of the hub and nothing else, known by its name and that of its data set."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from nanochat.runtime import StageContext
from nanochat.stages import fetch as stage
from nanochat.stages.fetch import FetchConfig, run

CONFIG = FetchConfig(dataset="someone/some-set", path="shard_00001.parquet")


def test_the_file_is_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = tmp_path / "downloads" / "someone--some-set" / "shard_00001.parquet"
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(b"rows")
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    output = tmp_path / "output"
    output.mkdir()
    summary = run(StageContext({}, output, tmp_path, tmp_path), CONFIG)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == {"shard_00001.parquet": b"rows"}
    assert (summary.metrics, summary.key_metric) == ({"bytes": 4}, "bytes")


def test_identity_is_which_file_of_which_data_set() -> None:
    assert CONFIG.identity() == {"dataset": "someone/some-set", "path": "shard_00001.parquet"}
    with pytest.raises(ValidationError):
        FetchConfig(dataset="someone/some-set")


def test_the_stage_file_is_light() -> None:
    assert not {"httpx", "stamina"} & set(vars(stage))
