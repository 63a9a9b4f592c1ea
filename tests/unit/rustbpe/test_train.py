"""The trainer against the definition of byte-pair encoding in plain Python."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
import regex
from hypothesis import given, settings
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
    assert rustbpe.train(corpus, 512) == oracle_train(corpus, 512)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab c1'\n", max_size=40) | st.text(ASSIGNED, max_size=20), max_size=6))
def test_merges_equal_the_oracle_to_the_last_pair(texts: list[str]) -> None:
    expected = oracle_train(texts, 10_000)
    assert rustbpe.train(texts, len(expected), threads=2) == expected
    with pytest.raises(rustbpe.VocabularyTooLarge) as caught:
        rustbpe.train(texts, len(expected) + 1)
    assert caught.value.largest == len(expected)


@pytest.mark.criterion("T26")
def test_threads_and_order_do_not_matter(corpus: list[str]) -> None:
    shuffled = random.Random(1).sample(corpus, len(corpus))
    expected = rustbpe.train(corpus, 2000, threads=1)
    assert rustbpe.train(corpus, 2000, threads=8) == expected
    assert rustbpe.train(shuffled, 2000, threads=3) == expected


@pytest.mark.criterion("T26")
def test_hash_seeds_do_not_matter() -> None:
    program = (
        "import hashlib, rustbpe; texts = [f'{n} words and {n * n} letters' for n in range(2000)];"
        "print(hashlib.sha256(b' '.join(rustbpe.train(texts, 360, threads=2))).hexdigest())"
    )
    printed = set()
    for seed in range(10):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", program]
        printed.add(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    assert len(printed) == 1


def test_another_pattern() -> None:
    assert rustbpe.train(["ab ab cd"], 257, pattern=r"\S+")[256] == b"ab"
    assert rustbpe.train(["ab ab"], 257, pattern=".+")[256] == b"ab"
    with pytest.raises(rustbpe.VocabularyTooLarge):
        rustbpe.train(["ab ab"], 257, pattern=".")


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

    assert rustbpe.train(texts(), 260)[-1] == b" word"
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
        ((["a", b"b"], 300), TypeError, r"texts\[1\] is not a str"),
        ((7, 300), TypeError, "not iterable"),
        ((["a", "b\ud800"], 300), ValueError, r"texts\[1\].*surrogates not allowed"),
        ((["a"], 255), ValueError, "255 is under the 256 bytes"),
        ((["a"], 300, "(a"), ValueError, "pattern"),
        (([" " * 4_000_000 + "x"], 300, rustbpe.DEFAULT_PATTERN + "|x"), ValueError, "gave up"),
        (([], 257), rustbpe.VocabularyTooLarge, "the largest possible is 256"),
    ],
)
def test_bad_input_is_an_error_that_says_what(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rustbpe.train(*arguments)
