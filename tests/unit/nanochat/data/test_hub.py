"""Hub data sets: the right numbers, the fixed validation shard, and a cache that is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import ResourceError, UsageError
from nanochat.data.download import Patience
from nanochat.data.hub import DATASETS, HubDataset, address, fetch_shard, fetch_shards, place, shard_files

QUICK = Patience(attempts=2, wait_s=0.01, max_wait_s=0.05, silence_s=1.0)


def test_the_validation_shard_is_always_the_last_of_the_data_set() -> None:
    assert shard_files(DATASETS["fineweb-edu"], 2) == [
        "shard_00000.parquet", "shard_00001.parquet", "shard_01822.parquet",
    ]  # fmt: skip
    assert shard_files(DATASETS["climbmix"], 1) == ["shard_00000.parquet", "shard_06542.parquet"]
    with pytest.raises(UsageError, match="num_shards = 6543"):
        shard_files(DATASETS["climbmix"], 6543)


@pytest.mark.parametrize(
    ("endpoint", "begins"),
    [
        ("", "https://huggingface.co"),
        ("https://hub.example/", "https://hub.example"),
        ("http://127.0.0.1:8000/mirrors/hf", "http://127.0.0.1:8000/mirrors/hf"),
    ],
)
def test_addresses(endpoint: str, begins: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert address(DATASETS["climbmix"].name, "shard_00007.parquet") == (
        f"{begins}/datasets/karpathy/climbmix-400b-shuffle/resolve/main/shard_00007.parquet"
    )


@pytest.mark.parametrize(
    "endpoint", ["hub.example", "ftp://hub.example", "https://", "https:///x", "http://a b"]
)
def test_an_endpoint_that_is_no_address(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(UsageError, match=r"^HF_ENDPOINT = .* is no address"):
        address("someone/some-set", "x")


@pytest.fixture
def hub(fault_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server of faults, where the hub would be."""
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", fault_server.url.rpartition("/")[0])
    return fault_server


def test_shards_are_fetched_once(hub: Any, tmp_path: Path) -> None:
    for _ in range(2):
        files = fetch_shards(HubDataset("someone/some-set", 9), 2, 2, patience=QUICK)
    assert [file.name for file in files] == [
        "shard_00000.parquet",
        "shard_00001.parquet",
        "shard_00009.parquet",
    ]
    assert {file.parent for file in files} == {tmp_path / "downloads" / "someone--some-set"}
    assert hub.bodies == 3
    assert fetch_shard("someone/some-set", "shard_00001.parquet") == files[1]
    assert hub.bodies == 3


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (500, 2)])
def test_a_hub_that_refuses_is_one_line(status: int, attempts: int, hub: Any) -> None:
    hub.faults = [lambda reply: setattr(reply, "status", status)] * 9
    with pytest.raises(ResourceError) as caught:
        fetch_shard("someone/some-set", "shard_00001.parquet", patience=QUICK)
    said = str(caught.value)
    assert f"{hub.url.rpartition('/')[0]}/datasets/someone/some-set/resolve/main/shard_00001.parquet" in said
    assert f"HTTP {status} (" in said
    assert "\n" not in said
    assert len(hub.requests) == attempts


def test_a_file_is_placed_as_a_link_or_else_as_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "fetched"
    file.write_bytes(b"text")
    place(file, tmp_path / "linked")
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("another file system")))
    place(file, tmp_path / "copied")
    assert (tmp_path / "linked").samefile(file)
    assert not (tmp_path / "copied").samefile(file)
    assert (tmp_path / "copied").read_bytes() == b"text"
