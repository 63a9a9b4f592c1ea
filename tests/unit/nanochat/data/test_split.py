"""Validation shares no 13-word sequence with anything else, and does not depend on the order."""

from __future__ import annotations

import hashlib
import random
import re
from itertools import pairwise

import pytest

from nanochat.data.split import NGRAM_WORDS, NgramHasher, choose_validation

RNG = random.Random(5)
WORDS = [f"word{n}" for n in range(300)]


def documents(texts: list[str]) -> list[tuple[str, str]]:
    return [(hashlib.sha256(text.encode()).hexdigest(), text) for text in texts]


def sequences(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + NGRAM_WORDS]) for i in range(len(words) - NGRAM_WORDS + 1)}


@pytest.fixture(scope="module")
def corpus() -> list[tuple[str, str]]:
    """Random texts, a third of which quote a passage of another."""
    texts = [" ".join(RNG.choices(WORDS, k=60)) for _ in range(200)]
    texts += [f"{' '.join(RNG.choices(WORDS, k=20))}, {RNG.choice(texts)[:150]}!" for _ in range(100)]
    return documents(texts)


def test_no_sequence_is_shared(corpus: list[tuple[str, str]]) -> None:
    chosen = choose_validation(corpus, 0.1, 1)
    assert len(chosen) == 30
    for digest, text in corpus:
        if digest in chosen:
            others = set[tuple[str, ...]]().union(*(sequences(t) for d, t in corpus if d != digest))
            assert not sequences(text) & others


def test_the_order_of_documents_does_not_matter(corpus: list[tuple[str, str]]) -> None:
    assert choose_validation(corpus, 0.1, 1) == choose_validation(corpus[::-1], 0.1, 1)


def test_at_least_the_minimum_and_at_most_a_fifth(corpus: list[tuple[str, str]]) -> None:
    assert len(choose_validation(corpus, 0.001, 25)) == 25
    assert len(choose_validation(corpus, 0.5, 250)) == 60
    assert choose_validation(corpus[:3], 0.5, 10) == set()
    assert choose_validation([], 0.5, 10) == set()


def test_a_text_that_stands_everywhere_is_never_chosen() -> None:
    shared = " ".join(WORDS[:20])
    assert choose_validation(documents([f"{n} {shared}" for n in range(50)]), 0.2, 1) == set()


def test_texts_too_short_to_judge_are_never_chosen() -> None:
    assert choose_validation(documents([f"only {n}" for n in range(50)]), 0.2, 1) == set()


def test_sequences_hash_alike_only_when_alike() -> None:
    grams = NgramHasher()
    words = WORDS[:14]
    first, second = grams(" ".join(words))[:2]
    assert first != second
    assert first in grams("Before, " + " ".join(words[:13]).upper())
    swapped = [words[1], words[0], *words[2:13]]
    assert first not in grams(" ".join(swapped))
    assert len({int(grams(" ".join(pair * 7))[0]) for pair in pairwise(WORDS)}) == len(WORDS) - 1
