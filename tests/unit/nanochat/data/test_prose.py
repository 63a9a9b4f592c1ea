"""What is left of a docstring: sentences, and no mark-up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.data.prose import clean, first_sentence


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Return x.\n\n    Indented alike.\n    ", "Return x.\n\nIndented alike."),
        ("See :func:`~os.path.join` and :class:`Path <pathlib.Path>`.", "See `os.path.join` and `Path`."),
        ("Better use ``this``, and **always** [1]_.", "Better use `this`, and always."),
        ("Read `the page <https://x.y>`_ first.", "Read the page first."),
        (".. note::\n   Mind this case well.", "Note: Mind this case well."),
        ("Text stays.\n\n.. versionadded:: 3.4\n\n   Not this.\n\nThis too.", "Text stays.\n\nThis too."),
        ("Text stays.\n\n>>> f(1)\n2", "Text stays."),
        ("Text stays.\n>>> f(1)\n2", "Text stays."),
        ("Parameters\n----------\nx : int\n    A number.", "Parameters:\n\nx : int\n    A number."),
        ("Text.\n\nExamples\n--------\n>>> f()\n1", "Text."),
        ("Text.\n\nReferences\n----------\nSomebody, 1999, A Paper.", "Text."),
        ("Copyright (c) 2001 Somebody\n\nText.", "Text."),
        ("Text.\n\n+---+---+\n| a | b |\n+---+---+", "Text."),
        ("Text.\n\n1 2 3 4 5\n6 7 8 9 0", "Text."),
        ("Text.\n\n\\frac{a}{b} + \\frac{c}{d}", "Text."),
        ("A zero\u200bwidth and \x00 null.", "A zerowidth and  null."),
        ("", ""),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected


def test_wrapped_lines_are_joined_and_lists_are_not() -> None:
    wrapped = "This sentence was wrapped by somebody's editor at\nseventy columns or so."
    assert clean(wrapped) == wrapped.replace("\n", " ")
    listed = "- This item is long enough to look like a wrapped line\n- and so is the second one"
    assert clean(listed) == listed
    named = "first: This item is long enough to look like a wrapped line\nsecond: and so is this"
    assert clean(named) == named


@given(st.text())
def test_anything_can_be_cleaned_and_encoded(text: str) -> None:
    assert "\x00" not in clean(text)
    clean(text).encode()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Join two paths. Then stop.", "Join two paths."),
        ("Join two paths\n\nMore.", "Join two paths."),
        ("Version 3.4 of it, e.g. this. More", "Version 3.4 of it, e.g. this."),
        ("One line\nand another.", "One line and another."),
        ("Arguments:", ""),
        ("", ""),
    ],
)
def test_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence
