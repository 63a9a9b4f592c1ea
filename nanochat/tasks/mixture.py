"""The registry of tasks, and conversation mixtures drawn from several of them.

Imports are per task and inside the functions, so a stage that uses two tasks depends on two files.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random

from artifacts.errors import UsageError
from nanochat.tasks.operands import has_test_pair
from nanochat.tasks.task import Conversation, Split, Task, plain_text

logger = logging.getLogger(__name__)

# task -> the modules of this package that it needs besides the shared ones
_MODULES: dict[str, frozenset[str]] = {
    "arithmetic/easy": frozenset({"arithmetic", "word_problems"}),
    "arithmetic/hard": frozenset({"arithmetic", "word_problems"}),
    "spelling": frozenset({"spelling", "words", "arithmetic", "word_problems"}),
    "docs": frozenset({"docs", "verbs"}),
    "identity": frozenset({"identity"}),
    "smalltalk": frozenset({"smalltalk", "conversations"}),
}
_SHARED_MODULES = frozenset({"mixture", "operands", "task"})
TASKS = tuple(_MODULES)


def task_modules(names: Iterable[str]) -> set[str]:
    """Modules of ``nanochat.tasks`` that a stage using these tasks depends on."""
    return _SHARED_MODULES.union(*(_MODULES[check_name(name)] for name in names))


def check_name(name: str) -> str:
    """``name`` itself; raises UsageError for a task that does not exist."""
    if name not in _MODULES:
        raise UsageError(f"unknown task {name!r}", f"one of {', '.join(TASKS)}")
    return name


def load_task(name: str, folder: Path) -> Task:
    """The task ``name`` over the shards artifact in ``folder``."""
    check_name(name)
    if name in ("arithmetic/easy", "arithmetic/hard"):
        from nanochat.tasks.arithmetic import Arithmetic

        return Arithmetic("easy" if name == "arithmetic/easy" else "hard")
    if name == "spelling":
        from nanochat.tasks.spelling import Spelling

        return Spelling(folder)
    if name == "docs":
        from nanochat.tasks.docs import Docs

        return Docs(folder)
    if name == "identity":
        from nanochat.tasks.identity import Identity

        return Identity()
    from nanochat.tasks.smalltalk import Smalltalk

    return Smalltalk(folder)


def build_mixture(weights: Mapping[str, int], split: Split, folder: Path, seed: int) -> list[Conversation]:
    """``weights[name]`` conversations of each task, shuffled together.

    A training conversation that happens to contain a test operand pair is left out. Small talk is
    optional data: without chat files it is left out with a warning. Raises UsageError for an unknown
    task, and what the tasks raise for missing or bad data.
    """
    conversations: list[Conversation] = []
    for name in sorted(weights):
        if name == "smalltalk" and weights[name] and not _has_chat(folder):
            logger.warning("smalltalk is left out: these shards hold no chat files")
            continue
        drawn = load_task(name, folder).examples(split, weights[name], seed) if weights[name] else []
        kept = [
            e.conversation for e in drawn if split == "test" or not has_test_pair(plain_text(e.conversation))
        ]
        if len(kept) < weights[name]:
            logger.info("%s: %d of %d conversations", name, len(kept), weights[name])
        conversations += kept
    Random(f"mixture {seed}").shuffle(conversations)
    return conversations


def _has_chat(folder: Path) -> bool:
    from nanochat.tasks.smalltalk import available

    return available(folder)
