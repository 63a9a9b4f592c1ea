"""Data sets of the hub: their shards by number, fetched once and kept under ``$NANOCHAT_HOME/downloads``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from artifacts.errors import UsageError
from artifacts.paths import home
from nanochat.data.download import PATIENCE, Patience, download

HOSTS = ("huggingface.co", "hf.co")
URL = "https://huggingface.co/datasets/{name}/resolve/main/{file}"


@dataclass(frozen=True)
class HubDataset:
    """A data set of numbered Parquet shards; the last one, always fetched, is for validation."""

    name: str
    last: int


DATASETS = {
    "fineweb-edu": HubDataset("karpathy/fineweb-edu-100b-shuffle", 1822),
    "climbmix": HubDataset("karpathy/climbmix-400b-shuffle", 6542),
}


def shard_numbers(dataset: HubDataset, num_shards: int) -> list[int]:
    """The first ``num_shards`` for training, then the validation shard."""
    if num_shards > dataset.last:
        raise UsageError(f"num_shards = {num_shards}: {dataset.name} has {dataset.last} train shards")
    return [*range(num_shards), dataset.last]


def fetch_shards(
    dataset: HubDataset,
    num_shards: int,
    workers: int,
    *,
    url: str = URL,
    patience: Patience = PATIENCE,
) -> list[Path]:
    """Local files of the shards in order, the validation shard last; fetched where not there yet."""
    folder = home() / "downloads" / dataset.name.replace("/", "--")

    def fetch(number: int) -> Path:
        file = f"shard_{number:05d}.parquet"
        source = url.format(name=dataset.name, file=file)
        return download(source, folder / file, hosts=HOSTS, patience=patience)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(fetch, shard_numbers(dataset, num_shards)))
