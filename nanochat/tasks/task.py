"""What a task is: examples with reference answers, and a grade for an answer.

Examples flow out to training (as conversations) and to evaluation and RL (as prompts); answers flow
back in. Everything is a function of (split, n, seed): no clock, no global random state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Split = Literal["train", "test"]
Conversation = dict[str, Any]
Parts = str | list[dict[str, str]]


@dataclass(frozen=True)
class Example:
    """One problem. ``conversation`` ends with the reference answer; ``reference`` is what is graded."""

    id: str
    conversation: Conversation
    reference: str
    subject: str = ""  # what the question is about, where an answer has to name it


class ToolCall(Protocol):
    """One tool call that the model itself wrote."""

    @property
    def ok(self) -> bool: ...


class Answer(Protocol):
    """What a grader sees of a completion: text outside tool calls, whether it ended, tool calls."""

    @property
    def text(self) -> str: ...
    @property
    def ended(self) -> bool: ...
    @property
    def tool_calls(self) -> Sequence[ToolCall]: ...


@dataclass(frozen=True)
class Grade:
    """``correct`` is the pass mark, ``score`` (0 to 1) its graded form, ``details`` plain JSON values."""

    correct: bool
    score: float
    details: dict[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """A source of examples. Train examples never end; the test set is the first n of a fixed stream."""

    name: str

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        """``n`` examples (fewer only where a finite test set ends); a prefix of any longer request."""
        ...

    def grade(self, example: Example, answer: Answer) -> Grade: ...


def dialogue(question: str, answer: Parts) -> Conversation:
    """A conversation of one question and one answer."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def tool_answer(expression: str, output: str, text: str) -> Parts:
    """An answer that calls the calculator, reads its output and then says ``text``."""
    return [
        {"type": "python", "text": expression},
        {"type": "python_output", "text": output},
        {"type": "text", "text": text},
    ]


def plain_text(conversation: Conversation) -> str:
    """Every piece of text of a conversation, one a line, tool calls included."""
    pieces: list[str] = []
    for message in conversation["messages"]:
        content = message["content"]
        pieces += [content] if isinstance(content, str) else [part["text"] for part in content]
    return "\n".join(pieces)


def in_test(key: str, percent: int = 10) -> bool:
    """Whether ``key`` belongs to the test side: a fixed share of all keys, by hash."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100 < percent
