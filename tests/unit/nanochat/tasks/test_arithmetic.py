"""Arithmetic problems: what a test pair is allowed in, and what counts as a right answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.tasks.arithmetic import DRAW_ONE, DRAW_TWO, Arithmetic, final_number
from nanochat.tasks.operands import is_test_pair, operand_pairs
from nanochat.tasks.task import Example, dialogue, plain_text
from nanochat.tasks.word_problems import ONE_STEP, TWO_STEP


@pytest.mark.parametrize("level", ["easy", "hard"])
def test_pairs_belong_to_their_split(level: Any) -> None:
    task = Arithmetic(level)
    for split in ("train", "test"):
        for example in task.examples(split, 150, 5):
            pairs = operand_pairs(plain_text(example.conversation))
            assert {is_test_pair(*pair) for pair in pairs} == {split == "test"}, example


def test_test_problems_are_distinct_and_answers_whole_and_not_negative() -> None:
    for level in ("easy", "hard"):
        examples = Arithmetic(level).examples("test", 200, 0)
        expressions = [e.conversation["messages"][1]["content"][0]["text"] for e in examples]
        assert len(set(expressions)) == 200
        assert all(example.reference.isdigit() for example in examples)


def test_every_form_has_templates_that_mention_its_operands() -> None:
    assert sorted(DRAW_ONE) == sorted(ONE_STEP)
    assert sorted(DRAW_TWO) == sorted(TWO_STEP)
    for form, templates in (ONE_STEP | TWO_STEP).items():
        for template in templates:
            assert {c for c in "abc" if f"{{{c}}}" in template} == {c for c in "abc" if c in form}, template


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("37 + 45 = 82.", "82"),
        ("The answer is 1,234.", "1234"),
        ("2 = 3 = 4, really", "4"),
        ("12 apples =", "12"),
        ("-5", "-5"),
        ("2.5 or 3.25", "3.25"),
        ("none", None),
    ],
)
def test_final_number(text: str, number: str | None) -> None:
    assert final_number(text) == number


@given(st.text(max_size=40), st.integers(0, 10**9))
def test_final_number_after_the_last_sign_wins_over_any_text(text: str, number: int) -> None:
    assert final_number(f"{text} = {number}.") == str(number)
    assert final_number(f"{text} = {number:,}.") == str(number)


@pytest.mark.parametrize(
    ("text", "ended", "calls", "correct"),
    [
        ("The answer is 82.", True, [True], True),
        ("The answer is 82.", True, [False, True], True),
        ("The answer is 82.", True, [], False),
        ("The answer is 82.", True, [False], False),
        ("The answer is 82.", False, [True], False),
        ("The answer is 83.", True, [True], False),
        ("The answer is 820.", True, [True], False),
        ("", True, [True], False),
    ],
)
def test_grade(text: str, ended: bool, calls: list[bool], correct: bool) -> None:
    example = Example("x", dialogue("What is 37 + 45?", "82"), "82")
    answer = SimpleNamespace(text=text, ended=ended, tool_calls=[SimpleNamespace(ok=ok) for ok in calls])
    assert Arithmetic("easy").grade(example, answer).correct is correct
