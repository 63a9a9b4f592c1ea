"""Question material: well-formed, and test apart from train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanochat.data.docstrings import Entry
from nanochat.data.objects import is_askable, is_summary, write_objects, write_words
from nanochat.data.pydocs import Document


def entry(name: str, text: str, kind: str = "function") -> Entry:
    return Entry(name, kind, ("a", "b"), f"{name}(a, b)", text)


@pytest.mark.parametrize(
    ("name", "askable"),
    [("os.path.join", True), ("a.B.c1", True), ("a._b", False), ("a.__init__", False), ("help('if')", False)],
)
def test_askable_names(name: str, askable: bool) -> None:
    assert is_askable(name) is askable


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("Join two or more paths.", True),
        ("Too short.", False),
        ("Join " + "very " * 40 + "many.", False),
        ("Größe of the thing, in metres.", False),
        ("returns what it was given before.", False),
        ("No full stop at the end of this", False),
        ("Maps x -> y, which is not prose.", False),
    ],
)
def test_summaries(text: str, good: bool) -> None:
    assert is_summary(text) is good


def test_test_objects_are_new_names_with_new_summaries(tmp_path: Path) -> None:
    train = Document(
        "train", (entry("m.join", "Join two or more paths."), entry("m._no", "A private function of it."))
    )
    held_out = Document(
        "val",
        (
            entry("n.JOIN", "Join whatever there is to join."),
            entry("n.split", "Join two or more paths."),
            entry("n.cut", "Cut a path in two parts.\n\nMore."),
            entry("n.wide", "How wide it is, in metres.", kind="property"),
        ),
    )
    counts = write_objects(tmp_path, [train, held_out], {held_out.sha256})
    assert counts == {"train_objects": 1, "test_objects": 1}
    (line,) = (tmp_path / "tasks/docs/test.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "name": "n.cut", "short": "cut", "kind": "function", "arguments": ["a", "b"],
        "summary": "Cut a path in two parts.", "document": held_out.sha256,
    }  # fmt: skip


def test_a_name_is_asked_once(tmp_path: Path) -> None:
    twice = [
        Document(
            str(n), (entry("m.join", "Join two or more paths."), entry(f"m.f{n}", f"Call number {n} of it."))
        )
        for n in range(2)
    ]
    assert write_objects(tmp_path, twice, set()) == {"train_objects": 3, "test_objects": 0}


def test_words_are_frequent_plain_and_sorted(tmp_path: Path) -> None:
    text = "zebra apple is Upper call(x) os.path extraordinarily rare " * 10
    write_words(tmp_path, [text, "seldom"])
    assert (tmp_path / "words.txt").read_text().split() == ["apple", "rare", "zebra"]
