"""The trainer against the definition of byte-pair encoding in plain Python."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import rustbpe

BYTES = [bytes([byte]) for byte in range(256)]
# The oracle's regex engine knows a newer Unicode; on characters that Python has, they agree.
ASSIGNED = st.characters(exclude_categories=("Cn", "Cs"))


def oracle_train(texts: Iterable[str], vocab_size: int) -> list[bytes]:
    """Tokens by id: recount all pairs, merge the most frequent (ties: smallest ids), repeat."""
    counts = Counter(piece for text in texts for piece in regex.findall(rustbpe.DEFAULT_PATTERN, text))
    words = [(list(piece.encode()), count) for piece, count in counts.items()]
    tokens = list(BYTES)
    while len(tokens) < vocab_size:
        pairs: Counter[tuple[int, int]] = Counter()
        for ids, count in words:
            for pair in pairwise(ids):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = [(replace(ids, best, len(tokens)), count) for ids, count in words]
        tokens.append(tokens[best[0]] + tokens[best[1]])
    return tokens


def replace(ids: list[int], pair: tuple[int, int], merged: int) -> list[int]:
    """``ids`` with each ``pair`` replaced, from left to right."""
    if pair[0] not in ids:
        return ids
    replaced: list[int] = []
    for id_ in ids:
        if replaced and (replaced[-1], id_) == pair:
            replaced[-1] = merged
        else:
            replaced.append(id_)
    return replaced


@pytest.mark.criterion("T26")
def test_merges_equal_the_oracle_on_a_megabyte(corpus: list[str]) -> None:
    assert sum(len(text.encode()) for text in corpus) > 900_000
    assert rustbpe.train(corpus, 512).tokens == oracle_train(corpus, 512)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab c1'\n", max_size=40) | st.text(ASSIGNED, max_size=20), max_size=6))
def test_merges_equal_the_oracle_to_the_last_pair(texts: list[str]) -> None:
    assume(any(texts))
    expected = oracle_train(texts, 10_000)
    enough = rustbpe.train(texts, len(expected), threads=2)
    assert (enough.tokens, enough.stopped_early) == (expected, False)
    more = rustbpe.train(texts, len(expected) + 1)
    assert (more.tokens, more.stopped_early) == (expected, True)
    assert repr(more) == f"Trained({len(expected)} tokens, stopped_early=True)"


@pytest.mark.criterion("T26")
def test_threads_and_order_do_not_matter(corpus: list[str]) -> None:
    shuffled = random.Random(1).sample(corpus, len(corpus))
    expected = rustbpe.train(corpus, 2000, threads=1).tokens
    assert rustbpe.train(corpus, 2000, threads=8).tokens == expected
    assert rustbpe.train(shuffled, 2000, threads=3).tokens == expected


@pytest.mark.criterion("T26")
def test_hash_seeds_do_not_matter() -> None:
    program = (
        "import hashlib, rustbpe; texts = [f'{n} words and {n * n} letters' for n in range(2000)];"
        "print(hashlib.sha256(b' '.join(rustbpe.train(texts, 360, threads=2).tokens)).hexdigest())"
    )
    printed = set()
    for seed in range(10):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", program]
        printed.add(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    assert len(printed) == 1


def test_another_pattern() -> None:
    assert rustbpe.train(["ab ab cd"], 257, pattern=r"\S+").tokens[256] == b"ab"
    assert rustbpe.train(["ab ab"], 257, pattern=".+").tokens[256] == b"ab"
    assert rustbpe.train(["ab ab"], 257, pattern=".").stopped_early


def test_texts_are_streamed() -> None:
    alive: list[int] = []

    class Text(str):
        def __del__(self) -> None:
            alive.remove(id(self))

    def texts() -> Iterator[str]:
        for _ in range(100):
            text = Text("word " * 200_000)  # 1 MB
            alive.append(id(text))
            yield text
            assert len(alive) < 40

    assert rustbpe.train(texts(), 260).tokens[-1] == b" word"
    assert alive == []


def test_an_error_of_the_iterable_comes_through() -> None:
    def texts() -> Iterator[str]:
        yield "text"
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        rustbpe.train(texts(), 300)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("one str", 300), TypeError, "give an iterable of str"),
        ((["a", b"b"], 300), TypeError, r"texts\[1\] is a <class 'bytes'>: give str or Arrow"),
        ((7, 300), TypeError, "not iterable"),
        ((["a", "b\ud800"], 300), rustbpe.CorpusError, r"texts\[1\].*surrogates not allowed"),
        ((["a"], 255), rustbpe.VocabularyError, "255 is under the 256 bytes"),
        ((["a"], 300, "(a"), rustbpe.PatternError, "pattern"),
        (([" " * 4_000_000 + "x"], 300, rustbpe.DEFAULT_PATTERN + "|x"), rustbpe.PatternError, "gave up"),
        (([], 257), rustbpe.CorpusError, "no text to train on"),
        ((["", ""], 257), rustbpe.CorpusError, "no text to train on"),
        (([pa.array([1, 2])], 300), TypeError, "Arrow array of type int64: give string or large_string"),
        (([pa.array(["a", None])], 300), rustbpe.CorpusError, "holds 1 nulls"),
    ],
)
def test_bad_input_is_an_error_that_says_what(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rustbpe.train(*arguments)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_arrow_arrays_are_read_in_place(corpus: list[str], kind: pa.DataType) -> None:
    expected = rustbpe.train(corpus, 600).tokens
    array = pa.array(["cut off", *corpus, "", "cut off"], kind)[1:-1]
    assert rustbpe.train(array, 600).tokens == expected
    chunked = pa.chunked_array([array[:100], array[100:100], array[100:]])
    assert rustbpe.train(chunked, 600, threads=3).tokens == expected
    assert rustbpe.train(iter([*corpus[:100], array[100:]]), 600).tokens == expected


def parquet(folder: Path, texts: list[str], files: int = 3, **options: object) -> list[Path]:
    paths = [folder / f"{number}.parquet" for number in range(files)]
    size = -(-len(texts) // files)
    for number, path in enumerate(paths):
        table = pa.table(
            {"number": pa.nulls(len(texts[number * size :][:size])), "text": texts[number * size :][:size]}
        )
        pq.write_table(table, path, row_group_size=7, **options)
    return paths


PARQUET = {
    "zstd, plain": {"compression": "zstd", "use_dictionary": False},
    "snappy, dictionary": {"compression": "snappy"},
    "uncompressed, delta, version 2": {
        "compression": "none",
        "use_dictionary": False,
        "data_page_version": "2.0",
        "column_encoding": {"text": "DELTA_BYTE_ARRAY"},
    },
}


@pytest.mark.parametrize("options", PARQUET.values(), ids=PARQUET)
def test_parquet_files_are_read_by_the_threads(corpus: list[str], tmp_path: Path, options: dict) -> None:
    paths = parquet(tmp_path, corpus, **options)
    expected = rustbpe.train(corpus, 600).tokens
    for threads in (1, 2, 5):
        assert rustbpe.train_parquet(paths, 600, threads=threads).tokens == expected


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    ("doc_cap", "max_chars"), [(100, None), (None, 100_000), (50, 3_333), (10**9, 10**9), (1, 40)]
)
def test_limits_of_characters_are_in_the_order_of_the_text(
    tmp_path: Path, corpus: list[str], threads: int, doc_cap: int | None, max_chars: int | None
) -> None:
    left = max_chars or sys.maxsize
    texts = []
    for text in corpus:
        texts.append(text[:doc_cap][:left])
        left -= len(texts[-1])
    expected = rustbpe.train(texts, 300)
    trained = rustbpe.train_parquet(
        parquet(tmp_path, corpus), 300, threads=threads, doc_cap=doc_cap, max_chars=max_chars
    )
    assert (trained.tokens, trained.stopped_early) == (expected.tokens, expected.stopped_early)


def test_files_beyond_the_limit_are_not_read(tmp_path: Path, corpus: list[str]) -> None:
    first, *others = parquet(tmp_path, corpus)
    for path in others:
        content = bytearray(path.read_bytes())
        content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)  # the texts; the footer is needed
        path.write_bytes(content)
    limit = sum(map(len, corpus)) // 4
    trained = rustbpe.train_parquet([first, *others], 300, threads=2, max_chars=limit)
    assert trained.tokens == rustbpe.train_parquet([first], 300, max_chars=limit).tokens
    for _ in range(50):  # of several threads that fail the first in the corpus is heard
        with pytest.raises(rustbpe.CorpusError, match=r"1\.parquet: row group 0"):
            rustbpe.train_parquet([first, *others], 300, threads=4)


def test_parquet_that_cannot_be_read_is_an_error_that_says_where(tmp_path: Path) -> None:
    (path,) = parquet(tmp_path, ["some text"] * 100, 1)
    with pytest.raises(rustbpe.CorpusError, match=r'0.parquet: no text column "body": it has \["text"\]'):
        rustbpe.train_parquet([path], 300, "body")
    with pytest.raises(rustbpe.CorpusError, match=r"missing\.parquet: No such file"):
        rustbpe.train_parquet([path, tmp_path / "missing.parquet"], 300)
    raw = pa.table({"text": pa.array([b"fine"] * 9 + [b"\xff"], pa.binary())})
    pq.write_table(raw, tmp_path / "raw.parquet", row_group_size=6)
    with pytest.raises(rustbpe.CorpusError, match=r"raw.parquet: row group 1: text 3 is no UTF-8"):
        rustbpe.train_parquet([tmp_path / "raw.parquet"], 300, threads=2, max_chars=1000)
    whole = path.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(rustbpe.CorpusError, match=r"cut\.parquet"):
        rustbpe.train_parquet([tmp_path / "cut.parquet"], 300)


def test_progress_is_told_and_may_end_it(corpus: list[str]) -> None:
    told: list[tuple[str, int, int | None]] = []
    rustbpe.train(corpus, 400, progress=lambda *state: told.append(state))
    assert told[-1] == ("merge", 144, 144)
    assert ("count", len(corpus), len(corpus)) in told

    def stop(phase: str, done: int, total: int | None) -> None:
        raise RuntimeError(f"enough of {phase}")

    with pytest.raises(RuntimeError, match="enough of count"):
        rustbpe.train(corpus, 400, progress=stop)


ENDLESS = {
    "texts": "rustbpe.train(itertools.cycle(texts), 300, threads=2)",
    "one text": "rustbpe.train([' '.join(texts) * 200], 300, threads=2)",
    "one array": "rustbpe.train(pa.array(texts * 200, pa.large_string()), 300, threads=2)",
    "parquet": "rustbpe.train_parquet([path] * 10_000, 300, threads=2)",
}


@pytest.mark.parametrize("way", ENDLESS)
def test_ctrl_c_stops_it(tmp_path: Path, way: str) -> None:
    """Distinct words, so many that counting takes seconds or never ends."""
    path = tmp_path / "words.parquet"
    texts = [" ".join(f"{n * 7919 + k:x}ghij" for k in range(20_000)) for n in range(20)]
    pq.write_table(pa.table({"text": texts * 60}), path, row_group_size=20)
    program = f"""
import itertools, signal, rustbpe, pyarrow as pa, pyarrow.parquet as pq
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
path = {str(path)!r}
texts = pq.read_table(path)["text"].to_pylist()[:20]
started = False
def progress(*state):
    global started
    if not started:
        print("go", flush=True)
    started = True
try:
    {ENDLESS[way].removesuffix(")")}, progress=progress)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        process.send_signal(signal.SIGINT)
        try:
            assert process.communicate(timeout=20)[0] == "stopped\n"
        finally:
            process.kill()


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_a_damaged_group_after_the_limit_is_as_if_not_there(tmp_path: Path, threads: int) -> None:
    raw = pa.table({"text": pa.array([b"word " * 2000, b"\xff"], pa.binary())})
    pq.write_table(raw, tmp_path / "raw.parquet", row_group_size=1)
    for _ in range(20):
        assert rustbpe.train_parquet([tmp_path / "raw.parquet"], 258, threads=threads, max_chars=9).tokens
        with pytest.raises(rustbpe.CorpusError, match="row group 1: text 0 is no UTF-8"):
            rustbpe.train_parquet([tmp_path / "raw.parquet"], 258, threads=threads, max_chars=10**6)


def test_texts_keep_no_copy_of_their_bytes() -> None:
    text = "漢字" * 1000
    before = sys.getsizeof(text)
    rustbpe.train([text], 300)
    rustbpe.Encoder(BYTES).encode(text)
    assert sys.getsizeof(text) == before
