"""Spelling a word letter by letter, and counting a letter in it through the calculator tool.

Words come from ``words.txt`` of the shards artifact where it has one, else from a built-in list.
A tenth of the words, chosen by hash, are only ever asked in the test.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from nanochat.engine.calculator import calculate
from nanochat.tasks.arithmetic import final_number
from nanochat.tasks.task import Answer, Example, Grade, Split, dialogue, in_test, tool_answer
from nanochat.tasks.words import WORDS

LENGTHS = range(3, 11)
ABSENT_SHARE = 0.1  # of the counting questions: a letter that is probably not in the word
COUNT_SHARE = 0.5

SPELL = (
    "Spell the word {word}.",
    "How do you spell {word}?",
    "Please spell {word}.",
    "Spell {word} letter by letter.",
)
COUNT = (
    "How many {letter} are in {word}?",
    "How many times does {letter} occur in {word}?",
    "Count the letter {letter} in {word}.",
    "How often is the letter {letter} in the word {word}?",
)


class Spelling:
    """Questions about the letters of words; see the module's docstring."""

    name = "spelling"

    def __init__(self, folder: Path | None = None) -> None:
        words = _read_words(folder / "words.txt") if folder else list(WORDS)
        self._words = {
            "train": [word for word in words if not in_test(f"word {word}")],
            "test": [word for word in words if in_test(f"word {word}")],
        }

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        rng = Random(f"{self.name} {split} {seed}")
        return [self._example(f"{self.name}/{split}/{i + 1}", split, rng) for i in range(n)]

    def _example(self, name: str, split: Split, rng: Random) -> Example:
        word = rng.choice(self._words[split])
        if rng.random() >= COUNT_SHARE:
            spelled = "-".join(word)
            question = rng.choice(SPELL).format(word=word)
            return Example(name, dialogue(question, f"{word} is spelled {spelled}."), spelled, word)
        letter = rng.choice("abcdefghijklmnopqrstuvwxyz" if rng.random() < ABSENT_SHARE else word)
        expression = f"'{word}'.count('{letter}')"
        count = calculate(expression)
        final = f"{word} has {count} {letter}."
        question = rng.choice(COUNT).format(letter=letter, word=word)
        return Example(name, dialogue(question, tool_answer(expression, count, final)), count)

    def grade(self, example: Example, answer: Answer) -> Grade:
        """Spelled right, or counted right through the tool; either way the answer has to end."""
        if example.subject:
            spelled = re.findall(r"\b(?:[a-z]-)+[a-z]\b", answer.text)
            right = spelled[-1:] == [example.reference]
        else:
            called = any(call.ok for call in answer.tool_calls)
            right = called and final_number(answer.text) == example.reference
        correct = answer.ended and right
        return Grade(correct, float(correct), {"ended": answer.ended})


def _read_words(path: Path) -> list[str]:
    if not path.exists():
        return list(WORDS)
    words = path.read_text(encoding="utf-8").split()
    return [word for word in words if len(word) in LENGTHS and re.fullmatch("[a-z]+", word)]
