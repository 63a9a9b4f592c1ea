"""Data sets of the hub: their shards by number, fetched once and kept under ``$NANOCHAT_HOME/downloads``."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from artifacts.errors import UsageError
from artifacts.paths import home
from artifacts.redact import redact_text
from nanochat.data.download import PATIENCE, Patience, download

HOSTS = ("huggingface.co", "hf.co")


@dataclass(frozen=True)
class HubDataset:
    """A data set of numbered Parquet shards; the last one, always fetched, is for validation."""

    name: str
    last: int


DATASETS = {
    "fineweb-edu": HubDataset("karpathy/fineweb-edu-100b-shuffle", 1822),
    "climbmix": HubDataset("karpathy/climbmix-400b-shuffle", 6542),
}


def shard_files(dataset: HubDataset, num_shards: int) -> list[str]:
    """Names of the first ``num_shards`` for training, then that of the validation shard."""
    if num_shards > dataset.last:
        raise UsageError(f"num_shards = {num_shards}: {dataset.name} has {dataset.last} train shards")
    return [f"shard_{number:05d}.parquet" for number in [*range(num_shards), dataset.last]]


def address(name: str, file: str) -> str:
    """Where a file of a data set is: at the hub, or at ``HF_ENDPOINT``, as of Hugging Face's own programs."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    if not re.fullmatch(r"https?://[^\s/]\S*", endpoint):
        raise UsageError(
            f"HF_ENDPOINT = {redact_text(endpoint)!r} is no address", "write https://HOST, or unset it"
        )
    return f"{endpoint}/datasets/{name}/resolve/main/{file}"


def fetch_shard(name: str, file: str, *, patience: Patience = PATIENCE) -> Path:
    """The local file of a shard of the data set ``name``; fetched if it is not there yet."""
    target = home() / "downloads" / name.replace("/", "--") / file
    return download(address(name, file), target, hosts=HOSTS, patience=patience)


def fetch_shards(
    dataset: HubDataset, num_shards: int, workers: int, *, patience: Patience = PATIENCE
) -> list[Path]:
    """Local files of the shards in order, the validation shard last; fetched where not there yet."""

    def fetch(file: str) -> Path:
        return fetch_shard(dataset.name, file, patience=patience)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(fetch, shard_files(dataset, num_shards)))


def place(file: Path, target: Path) -> None:
    """Put a fetched file to ``target``, without a second copy where links are possible."""
    try:
        os.link(file, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, target)
