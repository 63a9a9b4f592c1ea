"""Documents in, train and validation out, chosen by document hash and free of shared passages.

A validation document shares no 13-word sequence with any other document of the corpus, so a low loss on it
cannot come from having read it. Sequences are compared as 64-bit hashes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import count

import numpy as np

NGRAM_WORDS = 13
POOL_FACTOR = 5  # candidates tried for each validation document wanted; about a third are clean
SIEVE_BITS = 24
_SIEVE_SHIFT = np.uint64(64 - SIEVE_BITS)
_WORD = re.compile(r"\w+")
_MIX = np.uint64(0x9E3779B97F4A7C15)


class NgramHasher:
    """Hashes of all 13-word sequences of a text; equal sequences have equal hashes within one hasher."""

    def __init__(self) -> None:
        self._ids: defaultdict[str, int] = defaultdict(count(1).__next__)

    def __call__(self, text: str) -> np.ndarray:
        """uint64 hashes, of words as ``\\w+`` and as separated by white space."""
        lowered = text.lower()
        return np.concatenate([self._of(_WORD.findall(lowered)), self._of(lowered.split())])

    def _of(self, words: Sequence[str]) -> np.ndarray:
        values = np.fromiter(map(self._ids.__getitem__, words), np.uint64, len(words))
        if len(values) < NGRAM_WORDS:
            return np.empty(0, np.uint64)
        values = (values * _MIX) ^ ((values * _MIX) >> np.uint64(29))
        hashes = np.zeros(len(values) - NGRAM_WORDS + 1, np.uint64)
        for offset in range(NGRAM_WORDS):
            hashes = (hashes ^ (hashes >> np.uint64(31))) * _MIX
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
    candidates, others = by_digest[: wanted * POOL_FACTOR], by_digest[wanted * POOL_FACTOR :]
    pool = [(digest, np.unique(grams_of(text))) for digest, text in candidates]
    shared = _seen_twice([grams for _, grams in pool], (grams_of(text) for _, text in others))
    clean = [digest for digest, grams in pool if len(grams) and not _any_in(grams, shared)]
    return set(clean[:wanted])


def _seen_twice(pool: list[np.ndarray], others: Iterable[np.ndarray]) -> np.ndarray:
    """Those sequences of the candidates, sorted, that occur in more than one document."""
    if not pool:
        return np.empty(0, np.uint64)
    candidates, counts = np.unique(np.concatenate(pool), return_counts=True)
    repeated = counts > 1
    sieve = np.zeros(1 << SIEVE_BITS, bool)
    sieve[candidates >> _SIEVE_SHIFT] = True
    for grams in others:
        suspects = grams[sieve[grams >> _SIEVE_SHIFT]]  # lets a few per cent through, quickly
        found = np.searchsorted(candidates, suspects).clip(max=max(len(candidates) - 1, 0))
        repeated[found[candidates[found] == suspects]] = True
    return candidates[repeated]


def _any_in(grams: np.ndarray, shared: np.ndarray) -> bool:
    if not len(shared):
        return False
    found = np.searchsorted(shared, grams).clip(max=len(shared) - 1)
    return bool((shared[found] == grams).any())
