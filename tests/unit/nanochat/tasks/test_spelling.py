"""Spelling: both kinds of question, where words come from, and what is graded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from nanochat.tasks.spelling import Spelling
from nanochat.tasks.task import Example, dialogue, in_test, plain_text


def graded(example: Example, text: str, *calls: bool) -> bool:
    answer = SimpleNamespace(text=text, ended=True, tool_calls=[SimpleNamespace(ok=ok) for ok in calls])
    return Spelling().grade(example, answer).correct


def test_spelled_answers_are_compared_letter_by_letter() -> None:
    example = Example("x", dialogue("Spell the word cab.", "cab is spelled c-a-b."), "c-a-b", "cab")
    assert graded(example, "cab is spelled c-a-b.")
    assert not graded(example, "cab is spelled c-a-b-s.")
    assert not graded(example, "c-a-b, no, c-a-p.")
    assert not graded(example, "cab")


def test_counting_needs_the_tool() -> None:
    example = Example("x", dialogue("How many a are in banana?", "3"), "3")
    assert graded(example, "banana has 3 a.", True)
    assert not graded(example, "banana has 3 a.")
    assert not graded(example, "banana has 2 a.", True)


def test_words_come_from_the_shards_and_keep_to_their_split(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(
        "ab\nToo\nfour4\nabcdefghijk\n" + "\n".join(f"word{c}" for c in "abcdefghijklmnopqrstuvwxyz")
    )
    task = Spelling(tmp_path)
    for split in ("train", "test"):
        texts = [plain_text(example.conversation) for example in task.examples(split, 80, 0)]
        words = {word.strip("?.'") for text in texts for word in text.split() if word.startswith("word")} - {
            "word"
        }
        assert words
        assert {in_test(f"word {word}") for word in words} == {split == "test"}


@pytest.mark.parametrize("folder", [None, Path("/nonexistent")])
def test_without_words_a_built_in_list_serves(folder: Path | None) -> None:
    assert len(Spelling(folder).examples("test", 10, 0)) == 10
