"""Are the merges of our crate those of rustbpe 0.1.0, which nanochat trains with?

    NANOCHAT_PEER_PYTHON=PYTHON python benchmarks/bpe_equal.py [--megabytes 1]

Prints one JSON document: for each kind of text and size of vocabulary how many tokens there are, whether the
text had no pair left before (``stopped_early``), and whether all tokens are the peer's, in the same order.
English is from NANOCHAT_DATA_MIRROR, else the built-in corpus; code is Python's standard library; Korean and
emoji are drawn with a fixed seed, words by Zipf's law. Exit code 1 where something differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bpe_sides import documents, write_part
from bpe_train import tokens_of, train_once

VOCAB_SIZES = (300, 512, 8192, 32768)
HANGUL = [chr(code) for code in range(0xAC00, 0xD7A4)]
EMOJI = [chr(code) for code in (*range(0x1F300, 0x1F650), *range(0x1F680, 0x1F700), *range(0x1F900, 0x1FA00))]
JOINER, SKINS = "\u200d", [chr(code) for code in range(0x1F3FB, 0x1F400)]


def code() -> Iterator[str]:
    for path in sorted(Path(os.__file__).parent.rglob("*.py")):
        yield path.read_text(encoding="utf-8", errors="replace")


def drawn(words: list[str], between: list[str]) -> Iterator[str]:
    """Documents of 500 words without end, the word of rank r drawn with weight 1/r."""
    draw = random.Random(6)
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    while True:
        chosen = draw.choices(words, weights, k=500)
        yield "".join(word + draw.choice(between) for word in chosen)


def korean() -> Iterator[str]:
    draw = random.Random(11172)
    syllables = draw.sample(HANGUL, 1200)
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 5))) for _ in range(20_000)]
    return drawn(words, [" "] * 8 + [", ", ". ", "\n", "\n\n"])


def emoji() -> Iterator[str]:
    draw = random.Random(0x1F916)

    def sequence() -> str:
        parts = draw.choices(EMOJI, k=draw.choice([1, 1, 1, 2, 3]))
        return JOINER.join(part + draw.choice(["", "", "\ufe0f", *SKINS]) for part in parts)

    return drawn([sequence() for _ in range(20_000)], ["", "", " ", "!\n"])


def compare(work: Path, texts: Iterator[str], megabytes: float, vocab_size: int) -> dict[str, Any]:
    """One training on each side."""
    work.mkdir()
    about = write_part(work, "train", texts, megabytes)
    for name in ("ours", "rustbpe"):
        if "why" in (found := train_once(name, work, vocab_size)):
            return {"equal": None, "why": found["why"]}
    ours, peer = tokens_of("ours", work), tokens_of("rustbpe", work)
    return {"equal": ours == peer, "tokens": len(ours), "stopped_early": len(ours) < vocab_size, **about}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=1, help="of each text, 10^6 bytes each")
    megabytes = parser.parse_args().megabytes
    result: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        kinds = {
            "english": lambda: documents(Path(folder), round(megabytes * 10**6)),
            "code": code,
            "korean": korean,
            "emoji": emoji,
        }
        for kind, texts in kinds.items():
            result[kind] = {}
            for size in VOCAB_SIZES:
                result[kind][str(size)] = compare(Path(folder) / f"{kind}{size}", texts(), megabytes, size)
                print(f"{kind} {size}: {result[kind][str(size)]}", file=sys.stderr)
    print(json.dumps(result, indent=1))
    return int(any(found["equal"] is False for sizes in result.values() for found in sizes.values()))


if __name__ == "__main__":
    sys.exit(main())
