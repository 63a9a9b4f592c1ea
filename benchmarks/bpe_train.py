"""Training a vocabulary: our crate against the peers, on the same text with the same number of threads.

    NANOCHAT_PEER_PYTHON=PYTHON python benchmarks/bpe_train.py [--megabytes 60] [--rounds 5]

Prints one JSON document. Each round of each side is a process of its own, loaded with the text before the
clock starts; the sides take turns, and numbers are medians. The peers, unmodified, run in the interpreter
NANOCHAT_PEER_PYTHON (default: .bench/bin/python, see peers.txt): rustbpe of PyPI, which nanochat trains
with, tokenizers of HF, gigabpe and gigatoken. Text: NANOCHAT_DATA_MIRROR, else the built-in corpus, each
document cut at 10,000 characters.

ratio             median seconds of rustbpe over ours (from an iterator of str); ratios: of each peer
over_input_mb     peak of resident memory, less what was resident when the text was loaded
equal_to_rustbpe  the tokens are those of rustbpe's mergeable ranks, in the same order
in_rustbpe        share of the tokens that rustbpe has too
time              where ours goes, and how far that is from reading the bytes and scanning them once
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import bpe_trainers
from bpe_sides import MB, THREADS, VOCAB_SIZE, in_turn, machine, median, prepare, rate, start_of, write_files
from bpe_trainers import TRAINERS

OURS = ("ours", "ours_arrow", "ours_parquet", "ours_phases", "floor")
PEERS = tuple(name for name in TRAINERS if name not in OURS)
TARGETS = {"time": 5.0, "time_stretch": 8.0, "memory_at_most": 0.6}


def train_once(name: str, work: Path, vocab_size: int) -> dict[str, Any]:
    """One training in a new process: its measurements, or ``why`` there are none."""
    import rustbpe

    if isinstance(start := start_of(TRAINERS[name][1]), str):
        return {"why": start}
    python, environment = start
    arguments = [name, str(work), str(vocab_size), rustbpe.DEFAULT_PATTERN, str(THREADS)]
    done = subprocess.run(
        [python, bpe_trainers.__file__, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}")
    return dict(json.loads(done.stdout))


def tokens_of(name: str, work: Path) -> list[str]:
    path = work / f"{name}.tokens.json"
    return list(json.loads(path.read_text())) if path.is_file() else []


def summary(name: str, rounds: list[dict[str, Any]], size: int, work: Path) -> dict[str, Any]:
    """The row of one side."""
    if "why" in rounds[0]:
        return {"why": rounds[0]["why"], "note": TRAINERS[name][2]}
    row = {
        **rate(size, [one["seconds"] for one in rounds]),
        "cpu_seconds": median(one["cpu_seconds"] for one in rounds),
        "over_input_mb": median((one["over_input_mb"] for one in rounds), 1),
        "version": rounds[0]["version"],
        "note": TRAINERS[name][2],
    }
    if name == "floor":
        return row
    theirs, tokens = tokens_of("rustbpe", work), tokens_of(name, work)
    return row | {
        "tokens": len(tokens),
        "same_every_round": len({one["sha256"] for one in rounds}) == 1,
        "equal_to_rustbpe": tokens == theirs if theirs else None,
        "in_rustbpe": round(len({*tokens} & {*theirs}) / len(tokens), 4) if theirs else None,
    }


def ratio(peer: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """How many times ours the peer takes."""
    if "why" in peer:
        return {"ratio": None, "why": peer["why"]}
    return {
        "ratio": round(peer["seconds"] / ours["seconds"], 2),
        "cpu": round(peer["cpu_seconds"] / ours["cpu_seconds"], 2),
        "memory": round(peer["over_input_mb"] / max(ours["over_input_mb"], 0.1), 2),
    }


def where_time_goes(rounds: list[dict[str, Any]], sides: dict[str, Any], size: int) -> dict[str, Any]:
    phases = {phase: median(one["phases"][phase] for one in rounds) for phase in rounds[0]["phases"]}
    return {
        "phases_seconds": phases,
        "split_and_count_mb_per_second": round(size / MB / max(phases["split_and_count"], 1e-9), 1),
        "floor_seconds": sides["floor"]["seconds"],
        "times_the_floor": round(sides["ours"]["seconds"] / sides["floor"]["seconds"], 1),
    }


def measure(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    about = prepare(work, train=arguments.megabytes)
    write_files(work, bpe_trainers.read_part(work, "train"))
    size = about["train"]["bytes"]
    names = [name for name in TRAINERS if name in OURS or name in arguments.peers]
    absent: dict[str, dict[str, Any]] = {}

    def one(name: str) -> dict[str, Any]:
        found = absent.get(name) or train_once(name, work, arguments.vocab_size)
        if "why" in found:
            absent[name] = found
        return found

    before = machine()
    rounds = in_turn(names, arguments.rounds, one)
    sides = {name: summary(name, rounds[name], size, work) for name in names}
    ratios = {name: ratio(sides[name], sides["ours"]) for name in names if name in PEERS}
    memory = None
    if "seconds" in sides.get("rustbpe", {}):
        memory = round(sides["ours"]["over_input_mb"] / sides["rustbpe"]["over_input_mb"], 2)
    return {
        **ratios.get("rustbpe", {"ratio": None, "why": "not asked for"}),
        "memory_of_ours_over_rustbpe": memory,
        "targets": TARGETS,
        "ratios": ratios,
        "time": where_time_goes(rounds["ours_phases"], sides, size),
        "sides": sides,
        "data": about,
        "machine": {"before": before, "after": machine()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=60, help="of text, 10^6 bytes each")
    parser.add_argument("--vocab-size", type=int, default=VOCAB_SIZE)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        result = measure(Path(folder), arguments)
    print(json.dumps({"threads": THREADS, **vars(arguments)} | result, indent=1))


if __name__ == "__main__":
    main()
