"""Documents in, train and validation out, chosen by document hash and free of shared passages.

A validation document shares no 13-word sequence with any other document of the corpus, so a low loss on it
cannot come from having read it. Sequences are compared as 64-bit hashes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

NGRAM_WORDS = 13
POOL_FACTOR = 8  # candidates tried for each validation document wanted
_WORD = re.compile(r"\w+")
_MIX = np.uint64(0x9E3779B97F4A7C15)


class NgramHasher:
    """Hashes of all 13-word sequences of a text; equal sequences have equal hashes within one hasher."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def __call__(self, text: str) -> np.ndarray:
        """Sorted unique uint64 hashes, of words as ``\\w+`` and as separated by white space."""
        lowered = text.lower()
        return np.unique(np.concatenate([self._of(_WORD.findall(lowered)), self._of(lowered.split())]))

    def _of(self, words: Sequence[str]) -> np.ndarray:
        ids = self._ids
        values = np.array([ids.setdefault(word, len(ids) + 1) for word in words], dtype=np.uint64)
        if len(values) < NGRAM_WORDS:
            return np.empty(0, np.uint64)
        values = (values * _MIX) ^ ((values * _MIX) >> np.uint64(29))
        hashes = np.zeros(len(values) - NGRAM_WORDS + 1, np.uint64)
        for offset in range(NGRAM_WORDS):
            hashes = (hashes * _MIX) ^ (hashes >> np.uint64(31))
            hashes += values[offset : offset + len(hashes)]
        return hashes


def choose_validation(
    documents: Sequence[tuple[str, str]],
    fraction: float,
    minimum: int,
    grams_of: Callable[[str], np.ndarray] | None = None,
) -> set[str]:
    """Digests of the validation documents among ``documents``, pairs of (sha256, text).

    Candidates are taken in the order of their digest; those that share a sequence with another document
    stay in train. About ``fraction`` of the documents are chosen, at least ``minimum`` where that many
    are free of shared passages, never more than a fifth.
    """
    grams_of = grams_of or NgramHasher()
    wanted = min(max(round(fraction * len(documents)), minimum), len(documents) // 5)
    by_digest = sorted(documents)
    pool = [(digest, grams_of(text)) for digest, text in by_digest[: wanted * POOL_FACTOR]]
    pool = [(digest, grams) for digest, grams in pool if len(grams)]
    shared = _seen_twice(pool, (grams_of(text) for _, text in by_digest[wanted * POOL_FACTOR :]))
    clean = [digest for digest, grams in pool if not np.isin(grams, shared, assume_unique=True).any()]
    return set(clean[:wanted])


def _seen_twice(pool: list[tuple[str, np.ndarray]], others: Iterable[np.ndarray]) -> np.ndarray:
    """Those sequences of the candidates that occur in more than one document."""
    if not pool:
        return np.empty(0, np.uint64)
    candidates, counts = np.unique(np.concatenate([grams for _, grams in pool]), return_counts=True)
    repeated = counts > 1
    for grams in others:
        positions = np.searchsorted(candidates, grams)
        positions[positions == len(candidates)] = 0
        repeated[positions[candidates[positions] == grams]] = True
    return candidates[repeated]
