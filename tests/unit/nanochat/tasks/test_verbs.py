"""Third person of docstring verbs, and None for everything else."""

from __future__ import annotations

import pytest

from nanochat.tasks.verbs import third_person


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Return", "returns"), ("Returns", "returns"), ("copy", "copies"), ("Destroy", "destroys"),
        ("Push", "pushes"), ("Pass", "passes"), ("Fetch", "fetches"), ("Undo", "undoes"), ("Fix", "fixes"),
        ("Class", None), ("The", None), ("", None), ("returning", None),
    ],
)  # fmt: skip
def test_third_person(word: str, expected: str | None) -> None:
    assert third_person(word) == expected
