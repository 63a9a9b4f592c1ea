"""Questions about documented objects, answered from their own documentation.

Reads ``tasks/docs/{train,test}.jsonl`` of the shards artifact, one object a line. Test objects stand
in validation documents, and no name asked in the test is asked in training. The reverse question
("Which function …?") is for training only: nobody can know the name of an object never seen.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from artifacts.errors import DataError, ResourceError
from nanochat.tasks.task import Answer, Example, Grade, Split, dialogue
from nanochat.tasks.verbs import third_person

MAX_SUMMARY_CHARACTERS = 140
MAX_NAME_CHARACTERS = 24
MAX_ARGUMENTS = 5

DOES = (
    "What does `{short}` do?",
    "What does the {kind} `{short}` do?",
    "What is `{short}` for?",
    "Describe `{short}`.",
    "Explain the {kind} `{short}`.",
)
ARGUMENTS = (
    "Which arguments does `{short}` take?",
    "Which arguments does the {kind} `{short}` take?",
    "What are the arguments of `{short}`?",
)
DOES_SHARE, WHICH_SHARE = 0.6, 0.15  # the rest asks for arguments


@dataclass(frozen=True)
class Documented:
    """One documented object: ``summary`` is the first sentence of its documentation."""

    name: str
    short: str
    kind: str
    arguments: tuple[str, ...]
    summary: str


class Docs:
    """Questions about the objects of one shards artifact; see the module's docstring."""

    name = "docs"

    def __init__(self, folder: Path) -> None:
        test = {item.short: item for item in _read(folder / "tasks/docs/test.jsonl")}
        train = [item for item in _read(folder / "tasks/docs/train.jsonl") if item.short not in test]
        self._objects = {"train": train, "test": list(test.values())}

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        """Train goes round the objects, with new questions each time; test asks once about each."""
        stream = self._stream(split, Random(f"{self.name} {split} {seed}"))
        return [example for example, _ in zip(stream, range(n), strict=False)]

    def _stream(self, split: Split, rng: Random) -> Iterator[Example]:
        number = 0
        while self._objects[split]:
            for item in rng.sample(self._objects[split], len(self._objects[split])):
                number += 1
                question, answer = _ask(item, split, rng)
                name = f"{self.name}/{split}/{number}"
                yield Example(name, dialogue(question, answer), reference=answer, subject=item.short)
            if split == "test":
                return

    def grade(self, example: Example, answer: Answer) -> Grade:
        """Correct: ended by itself and names the object asked for. Score: token F1."""
        named = re.search(rf"(?<!\w){re.escape(example.subject)}(?!\w)", answer.text) is not None
        details = {"ended": answer.ended, "named": named}
        return Grade(answer.ended and named, token_f1(answer.text, example.reference), details)


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of token precision and recall, tokens normalised as in SQuAD's evaluation."""
    ours, theirs = Counter(_normal_tokens(answer)), Counter(_normal_tokens(reference))
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else float(not ours and not theirs)


def _normal_tokens(text: str) -> list[str]:
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return [token for token in text.split() if token not in ("a", "an", "the")]


def _ask(item: Documented, split: Split, rng: Random) -> tuple[str, str]:
    """(question, reference answer) about one object."""
    draw = rng.random()
    sentence = _sentence(item)
    subject = f"The {item.kind} `{item.short}`"
    if draw < WHICH_SHARE and split == "train" and sentence.startswith(f"{subject} "):
        predicate = sentence.removeprefix(f"{subject} ").rstrip(".")
        return f"Which {item.kind} {predicate}?", f"{subject} of `{item.name.rpartition('.')[0]}`."
    if draw < WHICH_SHARE + DOES_SHARE or item.kind == "module" or len(item.arguments) > MAX_ARGUMENTS:
        return rng.choice(DOES).format(short=item.short, kind=item.kind), sentence
    names = [f"`{argument}`" for argument in item.arguments]
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "no arguments"
    return rng.choice(ARGUMENTS).format(short=item.short, kind=item.kind), f"{subject} takes {listed}."


def _sentence(item: Documented) -> str:
    """The summary as a sentence that names the object: "The function `join` joins …".

    The name stands behind a space here as it does in the questions, so it is the same tokens in both:
    copying it is then one skill for every name, not one for each.
    """
    subject = f"The {item.kind} `{item.short}`"
    verb, _, rest = item.summary.partition(" ")
    conjugated = None if rest.startswith("of ") else third_person(verb)  # "List of …" is no order to list
    return f"{subject} {conjugated} {rest}" if conjugated and rest else f"{subject}: {item.summary}"


def _read(path: Path) -> list[Documented]:
    """The objects of one file that are short enough to ask about, in order.

    Raises ResourceError without the file, DataError (file and line) for a line that is not an object.
    """
    if not path.exists():
        raise ResourceError(f"task docs needs {path}, which these shards do not have", "use source pydocs")
    items = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            items.append(_documented(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{path}:{number} is not a documented object") from None
    return [item for item in items if _usable(item)]


def _documented(fields: dict[str, Any]) -> Documented:
    arguments = tuple(str(argument) for argument in fields["arguments"] if argument not in ("self", "cls"))
    summary = " ".join(fields["summary"].replace("``", "`").split())
    return Documented(fields["name"], fields["short"], fields["kind"], arguments, summary)


def _usable(item: Documented) -> bool:
    return (
        re.fullmatch(r"[A-Za-z]\w+", item.short) is not None
        and len(item.short) <= MAX_NAME_CHARACTERS
        and 12 <= len(item.summary) <= MAX_SUMMARY_CHARACTERS
    )
