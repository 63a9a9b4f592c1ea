"""Which operand pairs belong to the test set, and finding the pairs that a text contains.

A pair is unordered and regardless of the operation, so a model that saw 37 + 45 in training is never
tested on 45 * 37. Pairs of two small numbers (multiplication tables, dates) are always training.
"""

from __future__ import annotations

import re

from nanochat.tasks.task import in_test

SMALL = 20  # a pair of two numbers below this is never a test pair

MAX_DIGITS = 15

_NUMBER = r"[0-9]++(?:,[0-9]{3})*+"
_OPERATION = r"(?:[-+*/×÷]|plus|minus|times|(?:divided|multiplied) by)"
# possessive quantifiers: this also has to get through megabytes of prose
_PAIR = re.compile(rf"({_NUMBER})\s*+\)?\s*+{_OPERATION}\s*+\(?\s*+(?=({_NUMBER}))")


def is_test_pair(a: int, b: int) -> bool:
    """Whether the pair of operands may occur only in test problems."""
    low, high = sorted((a, b))
    return high >= SMALL and in_test(f"operands {low} {high}")


def operand_pairs(text: str) -> set[tuple[int, int]]:
    """Adjacent operands of every expression in ``text``, each pair sorted."""
    found = ((match[1].replace(",", ""), match[2].replace(",", "")) for match in _PAIR.finditer(text))
    pairs = (sorted((int(a), int(b))) for a, b in found if max(len(a), len(b)) <= MAX_DIGITS)
    return {(low, high) for low, high in pairs}


def has_test_pair(text: str) -> bool:
    """Whether ``text`` would give away a test pair."""
    return any(is_test_pair(a, b) for a, b in operand_pairs(text))
