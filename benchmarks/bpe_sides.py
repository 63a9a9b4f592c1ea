"""What ``bpe_train.py`` and ``bpe_encode.py`` share: text, interpreters, rounds of each side in turn."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from loader import ROOT

VOCAB_SIZE = 32768
DOCUMENT_CHARS = 10_000  # nanochat's cap of a document in training its tokenizer
THREADS = 2
MB = 1_000_000
IN_OUR_INTERPRETER_TOO = ("tiktoken", "tokenizers")  # peers that this project's lock file has


def documents(work: Path, max_bytes: int) -> Iterator[str]:
    """The documents of NANOCHAT_DATA_MIRROR, else of the built-in corpus, each cut at DOCUMENT_CHARS."""
    from nanochat.data.corpus import write_pydocs
    from nanochat.data.shards import read_shard

    source = Path(os.environ.get("NANOCHAT_DATA_MIRROR") or work / "corpus")
    if not source.exists():
        write_pydocs(
            source,
            None,
            workers=2,
            shard_bytes=1 << 25,
            max_bytes=2 * max_bytes,
            val_fraction=0.01,
            val_documents=10,
        )
    for file in sorted((source / "pretrain").glob("shard_*.parquet")):
        for group in read_shard(file):
            yield from (text[:DOCUMENT_CHARS] for text in group)


def write_part(work: Path, name: str, texts: Iterable[str], megabytes: float) -> dict[str, int]:
    """Write ``texts`` until there are so many MB: ``NAME.utf8``, and the length of each in ``NAME.json``."""
    lengths: list[int] = []
    size = 0
    with (work / f"{name}.utf8").open("wb") as file:
        for text in texts:
            lengths.append(file.write(text.encode()))
            size += lengths[-1]
            if size >= megabytes * MB:
                break
    (work / f"{name}.json").write_text(json.dumps(lengths))
    return {"documents": len(lengths), "bytes": size}


def prepare(work: Path, **megabytes: float) -> dict[str, Any]:
    """Write the named parts, one after the other in the text, and say what they are."""
    wanted = sum(megabytes.values())
    texts = documents(work, round(wanted * MB))
    about: dict[str, Any] = {
        "source": "NANOCHAT_DATA_MIRROR" if os.environ.get("NANOCHAT_DATA_MIRROR") else "built-in corpus",
        "document_cap_chars": DOCUMENT_CHARS,
    }
    for name, size in megabytes.items():
        if (first := next(texts, None)) is None:
            raise SystemExit(
                f"{about['source']} has no text left for {name}; ask for fewer megabytes: {about}"
            )
        about[name] = write_part(work, name, chain([first], texts), size)
        if about[name]["bytes"] < size * MB:
            about[name]["why_less"] = f"all that is there; {size} MB were asked for"
    return about


def write_files(work: Path, texts: list[str]) -> None:
    """The training text in the two other forms that trainers read: Parquet, and lines of a text file."""
    from nanochat.data.shards import write_shard

    write_shard(work, "train.parquet", "train", texts)
    with (work / "train.txt").open("w", encoding="utf-8", newline="") as file:
        file.writelines(chain.from_iterable((text, "\n") for text in texts))


def peer_python() -> str | None:
    """The interpreter that has the peers (see peers.txt), if it is there."""
    python = Path(os.environ.get("NANOCHAT_PEER_PYTHON") or ROOT / ".bench/bin/python")
    return str(python) if python.is_file() else None


def start_of(package: str | None) -> tuple[str, dict[str, str]] | str:
    """Interpreter and environment of a side that needs ``package`` (None: ours), or why there is none."""
    environment = {
        **os.environ,
        "RAYON_NUM_THREADS": str(THREADS),
        "OMP_NUM_THREADS": str(THREADS),
        "TOKENIZERS_PARALLELISM": "true",
    }
    if package is None:
        return sys.executable, environment
    if python := peer_python():
        environment.pop("PYTHONPATH", None)
        return python, environment
    if package in IN_OUR_INTERPRETER_TOO:
        return sys.executable, environment
    return "no interpreter for the peers: set NANOCHAT_PEER_PYTHON, see benchmarks/peers.txt"


def in_turn(names: Iterable[str], rounds: int, one: Callable[[str], Any]) -> dict[str, list[Any]]:
    """What ``one`` says of each name in every round; every other round goes backwards."""
    order = list(names)
    found: dict[str, list[Any]] = {name: [] for name in order}
    for number in range(rounds):
        for name in order if number % 2 == 0 else order[::-1]:
            found[name].append(one(name))
            print(f"round {number + 1}: {name}", file=sys.stderr)
    return found


def median(values: Iterable[float], digits: int = 4) -> float:
    return round(statistics.median(values), digits)


def rate(size: int, seconds: list[float]) -> dict[str, Any]:
    """MB/s of the median, and the range that the rounds saw."""
    return {
        "mb_per_second": round(size / MB / statistics.median(seconds), 1),
        "seconds": median(seconds),
        "from_to_seconds": [round(min(seconds), 4), round(max(seconds), 4)],
    }


def machine() -> dict[str, Any]:
    """What the numbers depend on beside the code."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {"cpus": os.cpu_count(), "cpu": next(models, "unknown"), "load": round(os.getloadavg()[0], 2)}
