"""Small talk between people, from the chat files of the shards artifact (``chat/*.jsonl.gz``).

Long conversations are cut after the last answer that fits, so a small model sees whole turns.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from artifacts.errors import ResourceError
from nanochat.tasks.conversations import load_jsonl
from nanochat.tasks.task import Answer, Conversation, Example, Grade, Split, plain_text

MAX_CHARACTERS = 500  # of all turns of one conversation


class Smalltalk:
    """Openings of human conversations; the test files are their own."""

    name = "smalltalk"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        """Train goes round the conversations, shuffled anew each time; the test ends with its files."""
        conversations = self._read("test")
        if split == "train":
            held_out = {plain_text(conversation) for conversation in conversations}
            conversations = [item for item in self._read("train") if plain_text(item) not in held_out]
        rng = Random(f"{self.name} {split} {seed}")
        chosen: list[Conversation] = []
        while conversations and len(chosen) < n:
            chosen += rng.sample(conversations, len(conversations))
            if split == "test":
                break
        return [_example(f"{self.name}/{split}/{i}", item) for i, item in enumerate(chosen[:n], 1)]

    def grade(self, example: Example, answer: Answer) -> Grade:
        """There is no right answer to small talk; it only has to say something and end."""
        correct = answer.ended and bool(answer.text.strip())
        return Grade(correct, float(correct), {"ended": answer.ended})

    def _read(self, split: Split) -> list[Conversation]:
        paths = sorted((self._folder / "chat").glob(f"*{split}.jsonl.gz"))
        if not paths:
            raise ResourceError(
                f"task smalltalk needs chat/*.{split}.jsonl.gz, which these shards do not have",
                "install the extra demo-data and rebuild the shards, or leave smalltalk out",
            )
        shortened = (_opening(conversation) for path in paths for conversation in load_jsonl(path))
        unique = {plain_text(item): item for item in shortened if item is not None}
        return list(unique.values())


def available(folder: Path) -> bool:
    """Whether the shards hold chat files; they are an optional extra of the default data."""
    return any((folder / "chat").glob("*.jsonl.gz"))


def _opening(conversation: Conversation) -> Conversation | None:
    """The first whole exchanges that fit; None when not even one does, or a system message leads."""
    messages = conversation["messages"]
    if messages[0]["role"] == "system":
        return None
    for end in range(len(messages), 0, -2):
        opening = {"messages": messages[:end]}
        if len(plain_text(opening)) <= MAX_CHARACTERS:
            return opening
    return None


def _example(name: str, conversation: Conversation) -> Example:
    return Example(name, conversation, plain_text({"messages": conversation["messages"][-1:]}))
