"""Generating text: our inference model against nanochat's Engine, with the same weights, on a CPU.

    NANOCHAT_PEER=CHECKOUT python benchmarks/infer.py [--depth 4] [--rounds 5] [--into FILE]

Prints one JSON document. The peer is nanochat at 92d63d4, unmodified, in the interpreter NANOCHAT_PEER_PYTHON
(see peers.txt). Each side is a process of its own; the sides take turns, and numbers are medians. Ours runs
in each number format of its matrices that this machine has, nanochat in fp32 and bf16, all with 1 and 2
threads, and each figure is the best that a side reaches in any of them. Parts:

prefill    tokens of a prompt over the time to the first new token (TTFT)
decode_b1  tokens a second of one row after the first token; TPOT, the milliseconds between two of them; and
           the share of the bandwidth of memory that reading the matrices once a token takes
decode_b16 the same of 16 rows that go on from one prompt
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from bpe_sides import in_turn, machine
from infer_sides import DTYPES, THREADS, start_ours, start_peer, write_model
from loader import VOCAB_SIZE, Side

TARGETS = {"prefill": 5.0, "decode_b1": 3.0, "decode_b16": 4.0}
AT_ONCE = 16
AT_ONCE_TARGETS = {"over_ours": 4.0, "over_peer": 6.0}
ROWS = {"decode_b1": 1, "decode_b16": 16}


def prompts(count: int, length: int, vocab_size: int) -> list[list[int]]:
    """Random tokens, so that no two prompts share a beginning."""
    random = Random(0)
    return [[random.randrange(vocab_size) for _ in range(length)] for _ in range(count)]


def start_sides(work: Path, formats: list[str], counts: list[int]) -> tuple[dict[str, Side], str]:
    """All processes by name, and why the peer is absent, if it is."""
    sides = {
        f"ours {kept_as} {threads}": start_ours(work, kept_as, threads)
        for kept_as in formats
        for threads in counts
    }
    for dtype in DTYPES:
        for threads in counts:
            side = start_peer(work, dtype, threads)
            if isinstance(side, str):
                return sides, side
            sides[f"peer {dtype} {threads}"] = side
    return sides, ""


def rates(answer: dict[str, Any], rows: int, prompt_tokens: int) -> dict[str, float]:
    """Of one answer to one prompt: what a round says."""
    ticks = answer["ticks"]
    step = (ticks[-1] - ticks[0]) / (len(ticks) - 1)
    return {"prefill": prompt_tokens / ticks[0], "decode": rows / step, "ttft_s": ticks[0], "step_s": step}


def best(found: dict[str, list[dict[str, float]]], figure: str) -> dict[str, Any]:
    """The side with the highest median of ``figure``, and that median."""
    medians = {
        name: statistics.median(one[figure] for one in rounds) for name, rounds in found.items() if rounds
    }
    name = max(medians, key=lambda name: medians[name])
    values = [one[figure] for one in found[name]]
    return {
        "side": name, "tokens_per_second": round(medians[name]),
        "from_to": [round(min(values)), round(max(values))],
    }  # fmt: skip


def compared(found: dict[str, list[dict[str, float]]], figure: str, part: str, why: str) -> dict[str, Any]:
    """Best of ours over best of the peer's."""
    ours = {name: rounds for name, rounds in found.items() if name.startswith("ours")}
    peer = {name: rounds for name, rounds in found.items() if name.startswith("peer")}
    result: dict[str, Any] = {"ratio": None, "target": TARGETS[part], "ours": best(ours, figure)}
    if not peer:
        return {**result, "why": why}
    result["peer"] = best(peer, figure)
    result["ratio"] = round(result["ours"]["tokens_per_second"] / result["peer"]["tokens_per_second"], 2)
    result["all"] = {
        name: best({name: rounds}, figure)["tokens_per_second"] for name, rounds in found.items()
    }
    return result


def in_common(answers: dict[str, list[int]]) -> dict[str, int]:
    """How many tokens each side's answer begins with that nanochat's in fp32 (or ours) begins with too."""
    first = next((name for name in answers if name.startswith("peer float32")), next(iter(answers)))
    return {
        name: next(
            (at for at, (a, b) in enumerate(zip(tokens, answers[first], strict=True)) if a != b), len(tokens)
        )
        for name, tokens in answers.items()
    }  # fmt: skip


def speed(
    sides: dict[str, Side], why: str, arguments: argparse.Namespace, ask: Callable[[str, Any], Any]
) -> dict[str, Any]:
    """Prefill and decode of every side."""
    prompt = prompts(1, arguments.prompt_tokens, arguments.vocab_size)
    result: dict[str, Any] = {}
    answers: dict[str, list[int]] = {}
    for part, rows in ROWS.items():
        asked = {"prompts": prompt, "rows": rows, "tokens": arguments.tokens}

        def one(name: str, asked: dict[str, Any] = asked, rows: int = rows) -> dict[str, float]:
            answer = ask(name, asked)
            answers[name] = answer["tokens"][0]
            return rates(answer, rows, arguments.prompt_tokens)

        for name in sides:
            ask(name, {**asked, "tokens": 4})
        found = in_turn(sides, arguments.rounds, one)
        result[part] = compared(found, "decode", part, why)
        ours = result[part]["ours"]
        step_s = statistics.median(one["step_s"] for one in found[ours["side"]])
        about = ask(ours["side"], "about")
        ours["tpot_ms"] = round(step_s * 1000, 2)
        ours["bandwidth_share"] = round(about["bytes_a_step"] / step_s / about["read_bytes_per_second"], 2)
        ours["read_gb_per_second"] = round(about["read_bytes_per_second"] / 1e9, 1)
        if rows == 1:
            result["prefill"] = compared(found, "prefill", "prefill", why)
            winner = result["prefill"]["ours"]
            winner["ttft_ms"] = round(
                statistics.median(one["ttft_s"] for one in found[winner["side"]]) * 1000, 1
            )
            result["tokens_in_common"] = in_common(answers)
    return result


def at_once(
    sides: dict[str, Side],
    speeds: dict[str, Any],
    arguments: argparse.Namespace,
    ask: Callable[[str, Any], Any],
) -> dict[str, Any]:
    """Different prompts: our best side at once, and the best sides of one row one after the other."""
    asked = {
        "prompts": prompts(AT_ONCE, arguments.prompt_tokens, arguments.vocab_size),
        "rows": 1, "tokens": arguments.tokens,
    }  # fmt: skip
    ways = {"at_once": speeds["decode_b16"]["ours"]["side"], "ours": speeds["decode_b1"]["ours"]["side"]}
    if "peer" in speeds["decode_b1"]:
        ways["peer"] = speeds["decode_b1"]["peer"]["side"]
    tokens = AT_ONCE * arguments.tokens

    def one(way: str) -> float:
        return tokens / float(ask(ways[way], {**asked, "at_once": way == "at_once"})["ticks"][-1])

    medians = {way: statistics.median(rounds) for way, rounds in in_turn(ways, arguments.rounds, one).items()}
    return {
        "tokens_per_second": {way: round(median) for way, median in medians.items()},
        "sides": ways,
        **{
            name: {
                "ratio": round(medians["at_once"] / medians[way], 2) if way in medians else None,
                "target": AT_ONCE_TARGETS[name],
            }
            for name, way in (("over_ours", "ours"), ("over_peer", "peer"))
        },
    }  # fmt: skip


def measure(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    from nanochat.engine.matrices import formats_of

    shape = {name: getattr(arguments, name) for name in ("depth", "vocab_size", "seq_len", "window_pattern")}
    write_model(work, shape)
    formats = arguments.formats or list(formats_of(torch.device("cpu")))
    before = machine()
    sides, why = start_sides(work, formats, arguments.threads)

    def ask(name: str, question: Any) -> Any:
        return sides[name].ask(json.dumps(question))

    try:
        result = speed(sides, why, arguments, ask)
        result["at_once"] = at_once(sides, result, arguments, ask)
    finally:
        for side in sides.values():
            side.close()
    return {**result, "machine": {"before": before, "after": machine()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--vocab-size", type=int, default=VOCAB_SIZE)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--window-pattern", default="L", help="nanochat's script for CPUs has L")
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=128, help="to decode")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--formats", nargs="*", help="of our matrices (default: all of this machine)")
    parser.add_argument("--threads", nargs="*", type=int, default=THREADS, help="of every side, each in turn")
    parser.add_argument("--into", type=Path, help="write the JSON there too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        result = measure(Path(folder), arguments)
    said = json.dumps({**vars(arguments), "into": None} | result, indent=1)
    if arguments.into:
        arguments.into.write_text(said + "\n")
    print(said)
    reached = {
        **{part: result[part] for part in TARGETS},
        **{name: result["at_once"][name] for name in AT_ONCE_TARGETS},
    }
    missed = [
        part for part, one in reached.items() if one["ratio"] is not None and one["ratio"] < one["target"]
    ]
    print(f"below the target: {', '.join(missed) or 'none'}", file=sys.stderr)


if __name__ == "__main__":
    main()
