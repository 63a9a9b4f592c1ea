"""Hub data sets: the right numbers, the fixed validation shard, and a cache that is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import UsageError
from nanochat.data.download import Patience
from nanochat.data.hub import DATASETS, URL, HubDataset, fetch_shards, shard_numbers

QUICK = Patience(attempts=2, wait_s=0.01, max_wait_s=0.05, silence_s=1.0)


def test_the_validation_shard_is_always_the_last_of_the_data_set() -> None:
    assert shard_numbers(DATASETS["fineweb-edu"], 2) == [0, 1, 1822]
    assert shard_numbers(DATASETS["climbmix"], 1) == [0, 6542]
    with pytest.raises(UsageError, match="num_shards = 6543"):
        shard_numbers(DATASETS["climbmix"], 6543)


def test_addresses() -> None:
    assert URL.format(name=DATASETS["climbmix"].name, file="shard_00007.parquet") == (
        "https://huggingface.co/datasets/karpathy/climbmix-400b-shuffle/resolve/main/shard_00007.parquet"
    )


def test_shards_are_fetched_once(fault_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    url = fault_server.url.replace("shard_00000.parquet", "{file}")
    for _ in range(2):
        files = fetch_shards(HubDataset("someone/some-set", 9), 2, 2, url=url, patience=QUICK)
    assert [file.name for file in files] == [
        "shard_00000.parquet",
        "shard_00001.parquet",
        "shard_00009.parquet",
    ]
    assert {file.parent for file in files} == {tmp_path / "downloads" / "someone--some-set"}
    assert fault_server.bodies == 3
