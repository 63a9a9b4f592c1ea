"""The encoders that ``bpe_encode.py`` compares: a process that encodes once for every line that it reads.

    PYTHON benchmarks/bpe_encoders.py NAME FOLDER PATTERN THREADS

The line ``round`` is answered with the seconds of one encoding, ``about`` with a digest of its ids, both as
JSON. Imports nothing of this project but the crate, so it also runs in the interpreter of the peers.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from bpe_trainers import answers, byte_letters, hf_tokenizer, pypi_rustbpe, read_part

WORST = "worst"  # the side of the worst cases
Flat = tuple[Any, Any]  # uint32 ids of all texts, and the number of ids of each text


@dataclass
class Encoding:
    """``run(fresh())`` is one encoding; ``run`` alone is measured; ``flat`` turns its result into arrays."""

    run: Callable[[Any], Any]
    flat: Callable[[Any], Flat]
    fresh: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Job:
    folder: Path
    pattern: str
    threads: int

    def texts(self) -> list[str]:
        return read_part(self.folder, "encode")

    def tokens(self) -> list[bytes]:
        """The vocabulary, by id."""
        return [bytes.fromhex(token) for token in json.loads((self.folder / "ranks.json").read_text())]

    def ranks(self) -> dict[bytes, int]:
        return {token: rank for rank, token in enumerate(self.tokens())}


def of_lists(rows: list[list[int]]) -> Flat:
    return np.fromiter(chain.from_iterable(rows), np.uint32), np.fromiter(map(len, rows), np.int64)


def of_offsets(result: tuple[Any, Any]) -> Flat:
    return result[0].astype(np.uint32), np.diff(result[1])


def of_awkward(rows: Any) -> Flat:
    import awkward as ak

    return ak.to_numpy(ak.flatten(rows)).astype(np.uint32), ak.to_numpy(ak.num(rows)).astype(np.int64)


def ours(job: Job, *, warm: bool, lists: bool = False, arrow: bool = False) -> Encoding:
    """Cold: a new Encoder for every round. Warm: one that has encoded the same texts before."""
    import rustbpe

    tokens, texts = job.tokens(), job.texts()
    source: Any = texts
    if arrow:
        import pyarrow as pa

        source = pa.array(texts, pa.string())
    kept = rustbpe.Encoder(tokens, job.pattern)
    if warm:
        kept.encode_to_numpy(texts, job.threads)
    return Encoding(
        (lambda encoder: encoder.encode_batch(source, job.threads)) if lists
        else (lambda encoder: encoder.encode_to_numpy(source, job.threads)),
        of_lists if lists else of_offsets,
        (lambda: kept) if warm else partial(rustbpe.Encoder, tokens, job.pattern),
    )  # fmt: skip


def ours_one_thread(job: Job) -> Encoding:
    return ours(Job(job.folder, job.pattern, 1), warm=False)


def tiktoken(job: Job) -> Encoding:
    import tiktoken

    encoding = tiktoken.Encoding("same", pat_str=job.pattern, mergeable_ranks=job.ranks(), special_tokens={})
    texts = job.texts()
    return Encoding(lambda _: encoding.encode_ordinary_batch(texts, num_threads=job.threads), of_lists)


def riptoken(job: Job) -> Encoding:
    import riptoken

    encoding, texts = riptoken.CoreBPE(job.ranks(), {}, job.pattern), job.texts()
    return Encoding(lambda _: encoding.encode_ordinary_batch(texts), of_lists)


def parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two tokens that are joined to ``token``: what merging by rank leaves before the last merge."""
    found = [bytes([byte]) for byte in token]
    while len(found) > 2:
        joined = [ranks.get(left + right, sys.maxsize) for left, right in pairwise(found)]
        at = min(range(len(joined)), key=joined.__getitem__)
        found[at : at + 2] = [found[at] + found[at + 1]]
    return found


def hf(job: Job) -> Encoding:
    ranks, texts, letters = job.ranks(), job.texts(), byte_letters()
    spell = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = [tuple(spell[part] for part in parts(token, ranks)) for token in job.tokens()[256:]]
    tokenizer = hf_tokenizer(job.pattern, {spell[token]: rank for token, rank in ranks.items()}, merges)
    return Encoding(
        lambda _: tokenizer.encode_batch_fast(texts, add_special_tokens=False),
        lambda rows: of_lists([row.ids for row in rows]),
    )


def rustbpe(job: Job, *, batch: bool) -> Encoding:
    """rustbpe of PyPI loads no ranks, so it trains its own on the same text as ours."""
    tokenizer, texts = pypi_rustbpe(), job.texts()
    tokenizer.train_from_iterator(
        iter(read_part(job.folder, "train")), len(job.tokens()), pattern=job.pattern
    )
    if batch:
        return Encoding(lambda _: tokenizer.batch_encode(texts), of_lists)
    return Encoding(lambda _: list(map(tokenizer.encode, texts)), of_lists)


def gigatoken(job: Job, *, warm: bool, lists: bool = False) -> Encoding:
    import gigatoken

    texts = job.texts()
    fresh = partial(gigatoken.Tokenizer.from_tiktoken, job.folder / "ranks.tiktoken", "gpt4")
    kept = fresh()
    if warm:
        kept.encode_batch(texts)
    return Encoding(
        (lambda encoder: encoder.encode_batch_list(texts)) if lists
        else (lambda encoder: encoder.encode_batch(texts)),
        of_lists if lists else of_awkward,
        (lambda: kept) if warm else fresh,
    )  # fmt: skip


OWN = "its gpt4 splitter, of up to three digits"
# Name: how, the package of PyPI that it measures (None: our crate), what is measured or not the same.
ENCODERS: dict[str, tuple[Callable[[Job], Encoding], str | None, str]] = {
    "ours_cold": (partial(ours, warm=False), None, "encode_to_numpy, new every round"),
    "ours_warm": (partial(ours, warm=True), None, "encode_to_numpy, same texts again"),
    "ours_arrow_cold": (partial(ours, warm=False, arrow=True), None, "encode_to_numpy of an Arrow array"),
    "ours_lists_cold": (partial(ours, warm=False, lists=True), None, "encode_batch, new every round"),
    "ours_lists_warm": (partial(ours, warm=True, lists=True), None, "encode_batch, same texts again"),
    "ours_one_thread_cold": (ours_one_thread, None, "encode_to_numpy on one thread"),
    "tiktoken": (tiktoken, "tiktoken", "encode_ordinary_batch, lists"),
    "tokenizers": (hf, "tokenizers", "encode_batch_fast; its ids are not yet in Python"),
    "rustbpe": (partial(rustbpe, batch=False), "rustbpe", "encode, one text after the other, lists"),
    "rustbpe_batch": (partial(rustbpe, batch=True), "rustbpe", "batch_encode, lists"),
    "riptoken": (riptoken, "riptoken", "encode_ordinary_batch, lists"),
    "gigatoken_cold": (partial(gigatoken, warm=False), "gigatoken", f"{OWN}; arrays, new every round"),
    "gigatoken_warm": (partial(gigatoken, warm=True), "gigatoken", f"{OWN}; arrays, same texts again"),
    "gigatoken_lists_warm": (partial(gigatoken, warm=True, lists=True), "gigatoken", f"{OWN}; lists"),
}


def one_round(encoding: Encoding) -> dict[str, Any]:
    state = encoding.fresh()
    start, cpu = time.perf_counter(), time.process_time()
    result = encoding.run(state)
    times = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    del result, state
    return times


def about(encoding: Encoding, package: str | None) -> dict[str, Any]:
    ids, lengths = encoding.flat(encoding.run(encoding.fresh()))
    digest = hashlib.sha256(ids.astype("<u4").tobytes() + lengths.astype("<i8").tobytes())
    return {
        "tokens": len(ids),
        "ids_sha256": digest.hexdigest(),
        "version": metadata.version(package or "rustbpe"),
    }


def worst_texts(prose: list[str]) -> dict[str, str]:
    """The worst cases, each of 4 million characters."""
    draw, size = random.Random(26), 4_000_000
    return {
        "one_letter": "a" * size,
        "spaces": " " * size,
        "random_bytes": draw.randbytes(size).decode(errors="replace"),
        "random_letters": "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=size)),
        "prose_without_spaces": "".join(islice(chain.from_iterable("".join(prose).split()), size)),
    }


def encode_one(job: Job, tokens: list[bytes], text: str) -> dict[str, Any]:
    """One text on one thread by a new Encoder."""
    import rustbpe

    encoder, data = rustbpe.Encoder(tokens, job.pattern), text.encode()
    start = time.perf_counter()
    ids, _ = encoder.encode_to_numpy([text], 1)
    seconds = time.perf_counter() - start
    return {"bytes": len(data), "seconds": seconds, "round_trip": encoder.decode_bytes(ids) == data}


def questions(name: str, job: Job) -> dict[str, Callable[[], dict[str, Any]]]:
    """What the side answers to."""
    if name == WORST:
        tokens, texts = job.tokens(), worst_texts(job.texts())
        return {
            "round": lambda: {
                case: [encode_one(job, tokens, text[: len(text) // 4]), encode_one(job, tokens, text)]
                for case, text in texts.items()
            }
        }
    make, package, _ = ENCODERS[name]
    encoding = make(job)
    return {"round": partial(one_round, encoding), "about": partial(about, encoding, package)}


def main(name: str, folder: str, pattern: str, threads: str) -> None:
    answer = answers()
    try:
        known = questions(name, Job(Path(folder), pattern, int(threads)))
    except Exception as error:
        if name not in ENCODERS or ENCODERS[name][1] is None:
            raise  # ours
        why = {"why": f"{type(error).__name__}: {error}"}
        known = {"round": lambda: why, "about": lambda: why}
    for line in sys.stdin:
        print(json.dumps(known[line.strip()]()), file=answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
