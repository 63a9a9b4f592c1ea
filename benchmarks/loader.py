"""The pretraining loader alone against nanochat's, both on the same documents with the same vocabulary.

    NANOCHAT_PEER=CHECKOUT python benchmarks/loader.py [--rounds 7] [--seconds 2]

Prints one JSON document: tokens a second (medians of interleaved rounds, each side in a process of its
own), the ratio of ours as training uses it (tails carried on, prefetched) to the peer, the share of tokens
that each crops, and the size of our state. The peer is nanochat at 92d63d4, unmodified, with its four
tokenizer threads, in the interpreter NANOCHAT_PEER_PYTHON (default: .bench/bin/python, see peers.txt).

Documents: the text of NANOCHAT_DATA_MIRROR (else the built-in corpus), joined and cut into lengths drawn
from a lognormal distribution with the median (1,047 characters) and mean (1,446) of short web text.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from peer_loader import serve

ROOT = Path(__file__).resolve().parent.parent
MEDIAN_CHARS, SIGMA = 1047, 0.8  # exp(SIGMA**2 / 2) is the mean over the median
VOCAB_SIZE = 32768
VAL_DOCUMENTS = 1000
OURS = ("carry", "drop", "carry_plain")


def documents(folder: Path, max_bytes: int) -> Iterator[str]:
    """The text of shards in ``folder``, cut anew."""
    from nanochat.data.shards import read_shard

    lengths = np.random.default_rng(0)
    files = sorted((folder / "pretrain").glob("shard_*.parquet"))[:-1]  # the last one is for validation
    text, size = "", 0
    for group in (group for file in files for group in read_shard(file)):
        text += "\n\n".join(group)
        at = 0
        while at < len(text) - 50_000:
            chars = max(1, round(lengths.lognormal(np.log(MEDIAN_CHARS), SIGMA)))
            yield text[at : at + chars]
            at += chars
        size, text = size + at, text[at:]
        if size > max_bytes:
            return


def prepare(work: Path, max_bytes: int, vocab_size: int = VOCAB_SIZE) -> dict[str, Any]:
    """Shards of text, a vocabulary and the tokens of both: what the two sides read."""
    from nanochat.data.corpus import write_pydocs
    from nanochat.data.shards import write_shards
    from nanochat.data.token_writer import tokenize_shard
    from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS
    from nanochat.tokenizer.training import train_on_texts

    source = Path(os.environ.get("NANOCHAT_DATA_MIRROR") or work / "corpus")
    if not source.exists():
        write_pydocs(
            source,
            None,
            workers=2,
            shard_bytes=1 << 25,
            max_bytes=max_bytes,
            val_fraction=0.01,
            val_documents=10,
        )
    texts = list(documents(source, max_bytes))
    shards = write_shards(work, texts[:-VAL_DOCUMENTS], "train", 0, 1 << 23)
    shards += write_shards(work, texts[-VAL_DOCUMENTS:], "val", len(shards), 1 << 30)
    tokenizer = train_on_texts(islice(texts, 20_000), vocab_size)
    (work / "vocabulary.json").write_text(json.dumps({
        "pattern": tokenizer.pattern,
        "tokens": [base64.b64encode(token).decode() for token in tokenizer.tokens],
        "specials": {token: tokenizer.special(token[2:-2]) for token in SPECIAL_TOKENS},
    }))  # fmt: skip
    (work / "tokens").mkdir()
    about = [tokenize_shard(work, shard, work / "tokens", tokenizer, "", 0) for shard in shards]
    (work / "base_data_climbmix").symlink_to(work / "pretrain")
    lengths = np.concatenate([np.diff(np.load(path)) for path in (work / "tokens").glob("*.offsets.npy")])
    return {
        "documents": len(lengths), "tokens": sum(int(shard["tokens"]) for shard in about),
        "median_document_tokens": int(np.median(lengths)), "bos": tokenizer.special("bos"),
    }  # fmt: skip


def ours(mode: str, tokens_dir: Path, bos: int, batch: int, seq_len: int) -> None:
    """The process of one of our modes."""
    import torch

    from nanochat.data.loader import PretrainLoader
    from nanochat.data.prefetch import Prefetcher

    crop, _, plain = mode.partition("_")
    assert crop in ("carry", "drop")
    loader: Any = PretrainLoader(tokens_dir, "train", batch, seq_len, bos, crop=crop)
    if not plain:
        loader = Prefetcher(loader, torch.device("cpu"))

    def about() -> dict[str, Any]:
        ledger = loader.ledger()
        ended = ledger["used_tokens"] + ledger["cropped_tokens"]
        return {
            "crop_share": round(ledger["cropped_tokens"] / ended, 4),
            "repeated_bos_share": round(ledger["repeated_bos"] / ended, 4),
            "state_bytes": len(json.dumps(loader.state_dict())),
        }

    serve(batch * seq_len, loader.next, about)


class Side:
    """A process that answers; ``ask`` waits for it."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: object) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        print(question, file=self._process.stdin, flush=True)
        if not (answer := self._process.stdout.readline()):
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        self._process.communicate()


def peer_command() -> list[str] | str:
    """How to start the peer, or why not."""
    checkout = os.environ.get("NANOCHAT_PEER", "")
    python = Path(os.environ.get("NANOCHAT_PEER_PYTHON") or ROOT / ".bench/bin/python")
    if not (Path(checkout) / "nanochat/dataloader.py").is_file():
        return f"NANOCHAT_PEER = {checkout!r} is no checkout of nanochat"
    if not python.is_file():
        return f"no interpreter for the peer at {python}: see benchmarks/peers.txt"
    return [str(python), str(Path(__file__).with_name("peer_loader.py")), checkout]


def measure(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    made = prepare(work, arguments.megabytes << 20)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shape = [str(arguments.batch), str(arguments.seq_len)]
    command = [sys.executable, __file__, str(work / "tokens"), str(made.pop("bos")), *shape]
    sides = {mode: Side([*command, "--ours", mode], environment) for mode in OURS}
    if isinstance(peer := peer_command(), list):
        del environment["PYTHONPATH"]
        environment["NANOCHAT_BASE_DIR"] = str(work)
        sides["peer"] = Side([*peer, str(work / "vocabulary.json"), *shape], environment)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(arguments.rounds):
        for name in list(sides) if number % 2 == 0 else reversed(sides):
            rates[name].append(sides[name].ask(arguments.seconds))
    found = {
        name: {
            "tokens_per_second": round(statistics.median(rates[name])),
            "from_to": [round(min(rates[name])), round(max(rates[name]))],
            **side.ask("about"),
        }
        for name, side in sides.items()
    }
    for side in sides.values():
        side.close()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratio = round(medians["carry"] / medians["peer"], 1) if "peer" in medians else None
    why = {} if isinstance(peer, list) else {"why": peer}
    return {"ratio": ratio, **why, "sides": found, "data": made}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round of one side")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--megabytes", type=int, default=48, help="of text")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        result = measure(Path(folder), arguments)
    print(json.dumps(vars(arguments) | result, indent=1))


if __name__ == "__main__":
    if "--ours" in sys.argv:
        _, tokens, bos, batch, seq_len, _, mode = sys.argv
        ours(mode, Path(tokens), int(bos), int(batch), int(seq_len))
    else:
        main()
