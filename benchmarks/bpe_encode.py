"""Encoding prose: our crate against tiktoken and other peers, on the same texts with the same vocabulary.

    NANOCHAT_PEER_PYTHON=PYTHON python benchmarks/bpe_encode.py [--megabytes 20] [--rounds 5]

Prints one JSON document. Each side is a process of its own with the texts in memory as a list of str; the
sides take turns, and numbers are medians. The vocabulary is trained by our crate on text that comes after
the text to encode. The peers, unmodified, run in the interpreter NANOCHAT_PEER_PYTHON (default:
.bench/bin/python, see peers.txt). Text: NANOCHAT_DATA_MIRROR, else the built-in corpus, each document cut
at 10,000 characters.

ratio            MB/s of ours over those of tiktoken, encode_ordinary_batch with the same number of threads
equal            the ids are those of tiktoken, text by text
worst            of ours on one thread with a cold cache: MB/s relative to prose, and 4 MB over 1 MB in time
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import bpe_encoders
from bpe_encoders import ENCODERS, WORST
from bpe_sides import MB, THREADS, VOCAB_SIZE, in_turn, machine, median, prepare, rate, start_of
from bpe_trainers import read_part
from loader import Side

BASE = "tiktoken"
TARGETS = {"ours_cold": 8.0, "ours_warm": 15.0, "ours_lists_cold": 4.0}  # over tiktoken
LIMITS = {"rate_of_prose_at_least": 0.25, "four_to_one_at_most": 4.5}


def start(name: str, work: Path) -> Side | str:
    """The process of a side, or why there is none."""
    import rustbpe

    package = ENCODERS[name][1] if name in ENCODERS else None
    if isinstance(found := start_of(package), str):
        return found
    python, environment = found
    arguments = [name, str(work), rustbpe.DEFAULT_PATTERN, str(THREADS)]
    return Side([python, bpe_encoders.__file__, *arguments], environment)


def train(work: Path, vocab_size: int) -> int:
    """Write the vocabulary of all sides, also as tiktoken's files are; how many tokens it has."""
    import rustbpe

    tokens = rustbpe.train(read_part(work, "train"), vocab_size, threads=THREADS).tokens
    (work / "ranks.json").write_text(json.dumps([token.hex() for token in tokens]))
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens))
    (work / "ranks.tiktoken").write_text("".join(lines))
    return len(tokens)


def summary(name: str, about: dict[str, Any], rounds: list[dict[str, Any]], size: int) -> dict[str, Any]:
    """The row of one side."""
    return {
        **rate(size, [one["seconds"] for one in rounds]),
        "cpu_seconds": median(one["cpu_seconds"] for one in rounds),
        **{key: about[key] for key in ("tokens", "version", "equal")},
        "note": ENCODERS[name][2],
    }


def ratios(sides: dict[str, Any]) -> dict[str, Any]:
    """Each side over tiktoken, and ours over the two fast peers."""
    base = sides[BASE].get("mb_per_second")
    over = {
        name: {"ratio": None, "why": side["why"]} if "why" in side
        else {"ratio": round(side["mb_per_second"] / base, 2) if base else None}
        for name, side in sides.items()
        if name != BASE
    }  # fmt: skip
    for name, target in TARGETS.items():
        over[name]["target"] = target
    pairs = {
        "ours_lists_cold over riptoken": ("ours_lists_cold", "riptoken"),
        "ours_cold over gigatoken_cold": ("ours_cold", "gigatoken_cold"),
        "ours_warm over gigatoken_warm": ("ours_warm", "gigatoken_warm"),
        "ours_lists_warm over gigatoken_lists_warm": ("ours_lists_warm", "gigatoken_lists_warm"),
    }
    ahead = {
        what: round(sides[ours]["mb_per_second"] / sides[peer]["mb_per_second"], 2)
        for what, (ours, peer) in pairs.items()
        if peer in sides and "why" not in sides[peer]
    }
    return {"over_tiktoken": over, "over_fast_peers": ahead}


def worst_cases(rounds: list[dict[str, Any]], prose: float) -> dict[str, Any]:
    """Each worst case against ``prose``, MB/s of one thread with a cold cache."""
    found: dict[str, Any] = {}
    for case in rounds[0]:
        small, large = (statistics.median(one[case][at]["seconds"] for one in rounds) for at in (0, 1))
        speed = rounds[0][case][0]["bytes"] / MB / small
        four = large / small / (rounds[0][case][1]["bytes"] / rounds[0][case][0]["bytes"] / 4)
        found[case] = {
            "mb_per_second": round(speed, 1),
            "rate_of_prose": round(speed / prose, 2),
            "four_to_one": round(four, 2),
            "within_limits": speed / prose >= LIMITS["rate_of_prose_at_least"]
            and four <= LIMITS["four_to_one_at_most"],
            "round_trip": all(part["round_trip"] for one in rounds for part in one[case]),
        }
    return {"limits": LIMITS, "prose_mb_per_second": prose, "cases": found}


def measure(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    data = prepare(work, encode=arguments.megabytes, train=arguments.train_megabytes)
    data["vocabulary"] = train(work, arguments.vocab_size)
    size, before = data["encode"]["bytes"], machine()
    names = [name for name in ENCODERS if name not in arguments.without]
    started = {name: start(name, work) for name in [*names, WORST]}
    about: dict[str, Any] = {}
    for name in names:
        side = started[name]
        about[name] = {"why": side} if isinstance(side, str) else side.ask("about")
    present = [name for name in names if "why" not in about[name]]
    for name in present:
        expected = about[BASE].get("ids_sha256")
        about[name]["equal"] = about[name]["ids_sha256"] == expected if expected else None

    def one(name: str) -> dict[str, Any]:
        side = started[name]
        assert isinstance(side, Side)
        return dict(side.ask("round"))

    rounds = in_turn([*present, WORST], arguments.rounds, one)
    for side in started.values():
        if isinstance(side, Side):
            side.close()
    sides = {
        name: summary(name, about[name], rounds[name], size) if name in present else about[name]
        for name in names
    }
    return {
        **ratios(sides),
        "worst": worst_cases(rounds[WORST], sides["ours_one_thread_cold"]["mb_per_second"]),
        "sides": sides,
        "data": data,
        "machine": {"before": before, "after": machine()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=20, help="of text to encode, 10^6 bytes each")
    parser.add_argument("--train-megabytes", type=float, default=60, help="of text for the vocabulary")
    parser.add_argument("--vocab-size", type=int, default=VOCAB_SIZE)
    peers = [name for name, (_, package, _) in ENCODERS.items() if package and name != BASE]
    parser.add_argument("--without", nargs="*", choices=peers, default=[], help="sides to leave out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        result = measure(Path(folder), arguments)
    print(json.dumps({"threads": THREADS, **vars(arguments)} | result, indent=1))


if __name__ == "__main__":
    main()
