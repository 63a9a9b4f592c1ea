"""Every registered task keeps the contract of tasks/task.py; a new task is tested by being registered."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import UsageError
from nanochat.engine.calculator import calculate
from nanochat.tasks.conversations import load_jsonl
from nanochat.tasks.mixture import TASKS, build_mixture, load_task, task_modules
from nanochat.tasks.operands import is_test_pair, operand_pairs
from nanochat.tasks.task import Example, plain_text

OBJECTS = {
    "train": [
        {"name": f"package.module.{short}", "short": short, "kind": "function", "arguments": ["path", "mode"],
         "summary": f"{verb} the {noun} of the given path.", "document": "0"}
        for short, verb, noun in [("join", "Return", "parts"), ("split", "Split", "pieces"),
                                  ("exists", "Check", "existence"), ("shared", "Read", "lines")]
    ],
    "test": [
        {"name": "package.other.glob", "short": "glob", "kind": "function", "arguments": [],
         "summary": "Return a list of matching names.", "document": "1"},
        {"name": "package.other.shared", "short": "shared", "kind": "class", "arguments": ["a"],
         "summary": "A class that shares 37 + 450 things.", "document": "1"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shards artifact with the smallest conversations and documented objects."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "tasks/docs").mkdir(parents=True)
    (folder / "chat").mkdir()
    for split, objects in OBJECTS.items():
        lines = "".join(json.dumps(item) + "\n" for item in objects)
        (folder / f"tasks/docs/{split}.jsonl").write_text(lines)
        turns = ["Hi!", f"Hello from {split}.", "How are you?", "Fine."]
        roles = ["user", "assistant"] * 2
        messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)]
        with gzip.open(folder / f"chat/talk.{split}.jsonl.gz", "wt") as file:
            file.write(json.dumps({"messages": messages}) + "\n")
    return folder


@dataclass
class Said:
    """An answer as the engine would return it."""

    text: str
    ended: bool = True
    tool_calls: tuple[Any, ...] = ()


@dataclass
class Called:
    ok: bool = True


def reference_answer(example: Example) -> Said:
    """What a perfect model would say: the reference answer of the example."""
    content = example.conversation["messages"][-1]["content"]
    if isinstance(content, str):
        return Said(content)
    return Said(content[-1]["text"], tool_calls=(Called(),))


@pytest.mark.parametrize("name", TASKS)
def test_examples_are_a_pure_function_and_longer_requests_only_add(name: str, shards: Path) -> None:
    task = load_task(name, shards)
    assert task.name == name
    for split in ("train", "test"):
        few, many = task.examples(split, 3, 7), task.examples(split, 30, 7)
        assert few == many[: len(few)]
        assert many == load_task(name, shards).examples(split, 30, 7)
        assert len({example.id for example in many}) == len(many)
    assert len(task.examples("train", 30, 7)) == 30


@pytest.mark.parametrize("name", TASKS)
def test_seed_changes_training(name: str, shards: Path) -> None:
    task = load_task(name, shards)
    if name != "smalltalk":  # the fixture has a single conversation
        assert task.examples("train", 30, 1) != task.examples("train", 30, 2)


@pytest.mark.parametrize("name", TASKS)
def test_no_training_conversation_stands_in_the_test(name: str, shards: Path) -> None:
    task = load_task(name, shards)
    train = {plain_text(e.conversation) for e in task.examples("train", 400, 1)}
    test = {plain_text(e.conversation) for e in task.examples("test", 100, 1)}
    assert test
    assert not train & test


@pytest.mark.parametrize("name", TASKS)
def test_reference_answers_pass_and_unended_or_empty_ones_fail(name: str, shards: Path) -> None:
    task = load_task(name, shards)
    for example in task.examples("test", 50, 3) + task.examples("train", 50, 3):
        said = reference_answer(example)
        grade = task.grade(example, said)
        assert 0 <= grade.score <= 1
        json.dumps(grade.details, allow_nan=False)
        if "Which" not in plain_text(example.conversation):  # reverse questions do not name their object
            assert grade.correct, example
        said.ended = False
        assert not task.grade(example, said).correct
        assert not task.grade(example, Said("")).correct


@pytest.mark.parametrize("name", TASKS)
def test_conversations_are_valid_and_tool_outputs_true(name: str, shards: Path, tmp_path: Path) -> None:
    examples = load_task(name, shards).examples("train", 60, 5)
    path = tmp_path / "conversations.jsonl"
    path.write_text("".join(json.dumps(example.conversation) + "\n" for example in examples))
    assert load_jsonl(path) == [example.conversation for example in examples]
    for example in examples:
        content = example.conversation["messages"][-1]["content"]
        if not isinstance(content, str):
            assert [part["type"] for part in content] == ["python", "python_output", "text"]
            assert calculate(content[0]["text"]) == content[1]["text"]


def test_no_training_text_of_any_task_contains_a_test_pair(shards: Path) -> None:
    weights = dict.fromkeys(TASKS, 1500)
    train = {
        pair for c in build_mixture(weights, "train", shards, 11) for pair in operand_pairs(plain_text(c))
    }
    assert len(train) > 2000
    assert not any(is_test_pair(*pair) for pair in train)
    for name in ("arithmetic/easy", "arithmetic/hard"):
        for example in load_task(name, shards).examples("test", 200, 0):
            pairs = operand_pairs(plain_text(example.conversation))
            assert pairs
            assert not pairs & train


def test_mixture_holds_what_was_asked_in_a_fixed_order(shards: Path) -> None:
    weights = {"arithmetic/easy": 20, "identity": 10, "docs": 0}
    mixture = build_mixture(weights, "train", shards, 1)
    assert len(mixture) == 30
    assert mixture == build_mixture(dict(reversed(weights.items())), "train", shards, 1)
    assert sum("nanochat" in plain_text(c) or "small" in plain_text(c) or "calculator" in plain_text(c)
               for c in mixture) == 10  # fmt: skip


def test_small_talk_is_optional_and_unknown_tasks_are_not(tmp_path: Path) -> None:
    assert len(build_mixture({"smalltalk": 5, "identity": 2}, "train", tmp_path, 0)) == 2
    with pytest.raises(UsageError, match="unknown task 'poetry'"):
        build_mixture({"poetry": 5}, "train", tmp_path, 0)


def test_declared_modules_are_exactly_what_each_task_imports() -> None:
    package = Path(__file__).parents[2] / "nanochat/tasks"
    for name in TASKS:
        declared = task_modules([name])
        for module in declared - {"mixture"}:
            lines = (package / f"{module}.py").read_text().splitlines()
            imported = {
                line.split()[1].split(".")[2] for line in lines if line.startswith("from nanochat.tasks.")
            }
            assert imported <= declared, (name, module)
    assert "docs" not in task_modules(["identity"])
