"""Documentation questions: readable sentences, SQuAD's F1, naming, and bad input by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import DataError, ResourceError
from nanochat.tasks.docs import Docs, token_f1
from nanochat.tasks.task import Example, dialogue, plain_text

OBJECT = {"name": "os.path.join", "short": "join", "kind": "function", "arguments": ["path", "paths"],
          "summary": "Join two or more path components.", "document": "0"}  # fmt: skip


def docs_of(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> Docs:
    (folder / "tasks/docs").mkdir(parents=True)
    for split, objects in (("train", train), ("test", test)):
        text = "".join(json.dumps(item) + "\n" for item in objects)
        (folder / f"tasks/docs/{split}.jsonl").write_text(text)
    return Docs(folder)


def answers(folder: Path, **changes: Any) -> set[str]:
    examples = docs_of(folder, [OBJECT | changes], []).examples("train", 60, 0)
    return {plain_text(example.conversation).partition("\n")[2] for example in examples}


def test_answers_name_the_object_in_a_sentence(tmp_path: Path) -> None:
    assert answers(tmp_path) == {
        "The function `join` joins two or more path components.",
        "The function `join` takes `path` and `paths`.",
        "The function `join` of `os.path`.",
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"summary": "A path that can be joined.", "arguments": []},
         {"The function `join`: A path that can be joined.", "The function `join` takes no arguments."}),
        ({"arguments": ["self", "one"], "summary": "Copies ``x`` to\n y.", "kind": "method"},
         {"The method `join` copies `x` to y.", "The method `join` takes `one`.",
          "The method `join` of `os.path`."}),
        ({"arguments": list("abcdef"), "summary": "List of all."}, {"The function `join`: List of all."}),
    ],
)  # fmt: skip
def test_forms_of_answers(tmp_path: Path, changes: dict[str, Any], expected: set[str]) -> None:
    assert answers(tmp_path, **changes) == expected


def test_only_short_plain_objects_are_asked_about_and_test_names_never_in_training(tmp_path: Path) -> None:
    odd = [OBJECT | {"short": short} for short in ("_hidden", "a.b", "x" * 30)]
    odd += [OBJECT | {"summary": summary} for summary in ("Short.", "Long " * 60)]
    task = docs_of(tmp_path, [*odd, OBJECT], [OBJECT])
    assert task.examples("train", 5, 0) == []
    (example,) = task.examples("test", 5, 0)
    assert example.subject == "join"


@pytest.mark.parametrize(
    ("text", "ended", "correct"),
    [
        ("`join` joins.", True, True),
        ("join joins", True, True),
        ("`joins` joins.", True, False),
        ("`os_join` joins.", True, False),
        ("`join` joins.", False, False),
    ],
)
def test_grade(tmp_path: Path, text: str, ended: bool, correct: bool) -> None:
    example = Example("x", dialogue("?", "!"), "`join` joins two.", "join")
    grade = docs_of(tmp_path, [], []).grade(example, SimpleNamespace(text=text, ended=ended, tool_calls=[]))
    assert grade.correct is correct


def test_token_f1_of_known_cases() -> None:
    assert token_f1("The `join` joins two.", "join joins two") == 1
    assert token_f1("join joins", "`join` joins two paths") == pytest.approx(2 / 3)
    assert token_f1("apples", "join") == 0
    assert token_f1("", "join") == 0


@given(st.text(max_size=30), st.text(max_size=30))
def test_token_f1_is_symmetric_and_one_only_for_the_same_words(a: str, b: str) -> None:
    assert token_f1(a, b) == token_f1(b, a)
    assert 0 <= token_f1(a, b) <= 1
    assert token_f1(a, a) == 1


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"tasks/docs/test\.jsonl"):
        Docs(tmp_path)
    docs_of(tmp_path, [OBJECT], [OBJECT])
    for line in ("{", "[]", '{"name": "x"}', json.dumps(OBJECT | {"summary": 3})):
        (tmp_path / "tasks/docs/train.jsonl").write_text(json.dumps(OBJECT) + "\n" + line + "\n")
        with pytest.raises(DataError, match=r"train\.jsonl:2 is not a documented object"):
            Docs(tmp_path)
