"""Text to train on: seeded, about 1 MB, of many scripts, with few enough distinct words for an oracle."""

from __future__ import annotations

import random

import pytest

SYLLABLES = [
    "an", "ba", "co", "den", "er", "fi", "gu", "ing", "ka", "lo", "mes", "no", "op", "qu", "re", "st", "ti",
    "un", "ver", "wa", "да", "ши", "λό", "👩\u200d🚀", *"ßéñж漢字안녕한ابनि🤖",
]  # fmt: skip
BETWEEN = (" ",) * 20 + (", ", ". ", "\n", "\n\n", "  ", " — ", "'s ", "'LL ", "\t", "!?\r\n", " (", ") ")


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    """Documents of about 1 MB in all."""
    draw = random.Random(26)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(1500)]
    words += [str(draw.randint(0, 99999)) for _ in range(200)]
    frequency = [1 / rank for rank in range(1, len(words) + 1)]
    documents = []
    for _ in range(250):
        chosen = draw.choices(words, frequency, k=500)
        documents.append("".join(word + draw.choice(BETWEEN) for word in chosen))
    return documents
