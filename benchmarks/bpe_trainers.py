"""The trainers that ``bpe_train.py`` compares: one training in this process, told as one line of JSON.

    PYTHON benchmarks/bpe_trainers.py NAME FOLDER VOCAB_SIZE PATTERN THREADS

Imports nothing of this project but the crate, so it also runs in the interpreter of the peers.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any, TextIO


@dataclass
class Training:
    """``run`` is measured; ``tokens`` then gives each token's bytes by id; ``about`` is told as it is."""

    run: Callable[[], Any]
    tokens: Callable[[Any], list[bytes]]
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    folder: Path
    vocab_size: int
    pattern: str
    threads: int


def read_part(folder: Path, name: str) -> list[str]:
    """The documents of ``NAME.utf8``, with nothing else left in memory."""
    with (folder / f"{name}.utf8").open("rb") as file:
        return [file.read(size).decode() for size in json.loads((folder / f"{name}.json").read_text())]


def ours(job: Job) -> Training:
    import rustbpe

    texts = read_part(job.folder, "train")
    return Training(
        lambda: rustbpe.train(iter(texts), job.vocab_size, job.pattern, job.threads), lambda made: made.tokens
    )


def ours_arrow(job: Job) -> Training:
    import pyarrow.parquet as pq

    import rustbpe

    chunks = pq.read_table(job.folder / "train.parquet").column("text").chunks
    return Training(
        lambda: rustbpe.train(chunks, job.vocab_size, job.pattern, job.threads), lambda made: made.tokens
    )


def ours_parquet(job: Job) -> Training:
    import rustbpe

    paths = [str(job.folder / "train.parquet")]
    return Training(
        lambda: rustbpe.train_parquet(paths, job.vocab_size, pattern=job.pattern, threads=job.threads),
        lambda made: made.tokens,
    )


def ours_phases(job: Job) -> Training:
    """As ``ours``, with a callback that tells when all is counted; one merge takes as long as the set-up."""
    import rustbpe

    texts, about = read_part(job.folder, "train"), dict[str, Any]()

    def timed(vocab_size: int) -> tuple[Any, float, float]:
        """What was trained, the seconds until all was counted, and those after that."""
        counted = start = time.perf_counter()

        def progress(phase: str, done: int, total: int | None) -> None:
            nonlocal counted
            counted = time.perf_counter() if phase == "count" else counted

        made = rustbpe.train(iter(texts), vocab_size, job.pattern, job.threads, progress)
        return made, counted - start, time.perf_counter() - counted

    _, _, set_up = timed(257)

    def run() -> Any:
        made, counting, rest = timed(job.vocab_size)
        about["phases"] = {"split_and_count": counting, "set_up": set_up, "merge": rest - set_up}
        return made

    return Training(run, lambda made: made.tokens, about)


def floor(job: Job) -> Training:
    """No trainer: reads the bytes of the text and scans them once, on one thread."""
    import numpy as np

    path = job.folder / "train.utf8"

    def run() -> int:
        data = np.fromfile(path, np.uint8)
        return int(data[: len(data) // 8 * 8].view(np.uint64).sum())

    return Training(run, lambda _sum: [])


def pypi_rustbpe() -> Any:
    """An untrained tokenizer of the rustbpe of PyPI. ImportError when that name is our crate here."""
    import rustbpe

    if not hasattr(rustbpe, "Tokenizer"):
        raise ImportError(f"the rustbpe of {sys.executable} is not that of PyPI: see benchmarks/peers.txt")
    return rustbpe.Tokenizer()


def rustbpe_peer(job: Job) -> Training:
    texts, tokenizer = read_part(job.folder, "train"), pypi_rustbpe()

    def tokens(_made: None) -> list[bytes]:
        return [
            bytes(token) for token, _ in sorted(tokenizer.get_mergeable_ranks(), key=lambda pair: pair[1])
        ]

    return Training(
        lambda: tokenizer.train_from_iterator(iter(texts), job.vocab_size, pattern=job.pattern), tokens
    )


def byte_letters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = count(256)
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def byte_level(vocabulary: dict[str, int]) -> list[bytes]:
    """By id, the bytes that the characters of a byte-level vocabulary stand for."""
    byte_of = {letter: byte for byte, letter in enumerate(byte_letters())}
    return [
        bytes(map(byte_of.__getitem__, token)) for token in sorted(vocabulary, key=vocabulary.__getitem__)
    ]


def hf_tokenizer(pattern: str, vocabulary: Any = None, merges: Any = None) -> Any:
    """A tokenizer of HF with the same split pattern, byte level."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocabulary, merges, fuse_unk=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([  # type: ignore[assignment]
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    return tokenizer


def hf(job: Job) -> Training:
    from tokenizers import pre_tokenizers, trainers

    texts, tokenizer = read_part(job.folder, "train"), hf_tokenizer(job.pattern)
    trainer = trainers.BpeTrainer(
        vocab_size=job.vocab_size,
        min_frequency=0,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=[],
    )
    return Training(
        lambda: tokenizer.train_from_iterator(iter(texts), trainer),
        lambda _made: byte_level(tokenizer.get_vocab()),
    )


def gigabpe(job: Job) -> Training:
    import gigabpe

    files = [str(job.folder / "train.txt")]
    return Training(
        lambda: gigabpe.train_bpe(
            files, job.vocab_size, special_tokens=[], pretokenizer="bytelevel", threads=job.threads
        ),
        lambda made: byte_level(made[0]),
    )


def gigatoken(job: Job) -> Training:
    import gigatoken

    end = b"<|endoftext|>"
    data = end.join(text.encode() for text in read_part(job.folder, "train"))
    return Training(
        lambda: gigatoken.train_bpe(data, job.vocab_size, [], separator=end),
        lambda made: [made[0][id_] for id_ in sorted(made[0])],
    )


# Name: how, the package of PyPI that it measures (None: our crate), what is not the same.
TRAINERS: dict[str, tuple[Callable[[Job], Training], str | None, str]] = {
    "ours": (ours, None, "from an iterator of str"),
    "ours_arrow": (ours_arrow, None, "from Arrow chunks in memory"),
    "ours_parquet": (ours_parquet, None, "from the Parquet file: reading it is part of the time and memory"),
    "ours_phases": (ours_phases, None, "as ours, with a progress callback"),
    "rustbpe": (rustbpe_peer, "rustbpe", "train_from_iterator"),
    "tokenizers": (hf, "tokenizers", "the same split pattern, byte level; other order among ties"),
    "gigabpe": (
        gigabpe,
        "gigabpe",
        "own GPT-2 splitter; reads a text file, which is part of its time and memory",
    ),
    "gigatoken": (gigatoken, "gigatoken", "own GPT-2 splitter; from one bytes object in memory"),
    "floor": (floor, None, "no trainer: the bytes are read and scanned once, on one thread"),
}


def memory_kb(what: str) -> int:
    """VmRSS or VmHWM (its peak) of this process."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


def measure(name: str, job: Job) -> dict[str, Any]:
    make, package, _ = TRAINERS[name]
    training = make(job)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, start, cpu = memory_kb("VmRSS"), time.perf_counter(), time.process_time()
    made = training.run()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = memory_kb("VmHWM")
    tokens = training.tokens(made)
    (job.folder / f"{name}.tokens.json").write_text(json.dumps([token.hex() for token in tokens]))
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "over_input_mb": max(0, peak - before) * 1024 / 1e6,
        "tokens": len(tokens),
        "sha256": hashlib.sha256(" ".join(token.hex() for token in tokens).encode()).hexdigest(),
        "version": metadata.version(package or "rustbpe"),
        **training.about,
    }


def answers() -> TextIO:
    """Where our own lines go; what a library prints goes to stderr."""
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return stream


def main(name: str, folder: str, vocab_size: str, pattern: str, threads: str) -> None:
    answer = answers()
    try:
        result = measure(name, Job(Path(folder), int(vocab_size), pattern, int(threads)))
    except Exception as error:
        if TRAINERS[name][1] is None:
            raise  # ours
        result = {"why": f"{type(error).__name__}: {error}"}
    print(json.dumps(result), file=answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
