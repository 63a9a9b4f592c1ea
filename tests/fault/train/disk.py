"""What a power cut may leave of a folder: a program's file operations are recorded, then all crashes built.

The disk that is modelled keeps a file's bytes, and a folder's entries, as of their last fsync. What came
after is kept or lost, each for itself: bytes also in part; a create, rename (as one) or remove only on what
it rests on. After ALICE (Pillai et al., OSDI 2014).
"""

from __future__ import annotations

import os
import pickle
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from pathlib import Path
from typing import Any

OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate"}
SUBSETS_OF = 6  # pending changes of one folder of which every subset is tried

Content = bytes | dict[str, int]  # a file's bytes, or a folder's entries: name to inode
Change = dict[str, tuple[int | None, int | None]]  # name to what it was and became, by one operation
Tree = tuple[tuple[str, bytes | None], ...]  # relative paths in order, None for a folder


@dataclass(frozen=True)
class Moment:
    """The disk between two operations: of each inode the durable content, then all later ones."""

    root: int
    contents: dict[int, tuple[Content, ...]]
    promise: int  # what had been acknowledged to the caller


class Recorder:
    """Follows the tree below ``root``, an empty folder; ``promise`` is set by the program as it goes."""

    def __init__(self, root: Path) -> None:
        self.moments: list[Moment] = []
        self.promise = 0
        self._root, self._contents = root, dict[int, list[Content]]()
        self._pins: list[int] = []
        self._looking = False

    def hook(self, event: str, _: tuple[Any, ...]) -> None:
        """For sys.addaudithook: it is called before each operation."""
        if event in OPERATIONS:
            self.look()

    def fsync(self, descriptor: int) -> None:
        """In place of os.fsync."""
        self.look()
        pending = self._contents.get(os.fstat(descriptor).st_ino, [])
        del pending[:-1]

    def look(self) -> None:
        """Take down what has changed since the last time."""
        if self._looking:
            return  # by an operation of its own
        self._looking = True
        root = self._visit(self._root)
        moment = Moment(root, {inode: tuple(all_) for inode, all_ in self._contents.items()}, self.promise)
        if not self.moments or moment != self.moments[-1]:
            self.moments.append(moment)
        self._looking = False

    def _visit(self, path: Path) -> int:
        inode, is_folder = path.lstat().st_ino, path.is_dir()
        if inode not in self._contents:
            self._pins.append(os.open(path, os.O_PATH))  # so that nothing else gets its number
            self._contents[inode] = [{} if is_folder else b""]
        now: Content
        if is_folder:
            now = {entry.name: self._visit(entry) for entry in sorted(path.iterdir())}
        else:
            now = path.read_bytes()
        if now != self._contents[inode][-1]:
            self._contents[inode].append(now)
        return inode


def record(
    fork: Callable[[Callable[[], int]], int],
    exit_code: Callable[[int], int],
    folder: Path,
    program: Callable[[Recorder], None],
) -> list[Moment]:
    """All moments of ``program(recorder)``, run in a child with a recording fsync; it works in ``folder``."""
    folder.mkdir()
    answer = folder.with_suffix(".moments")

    def body() -> int:
        recorder = Recorder(folder)
        sys.addaudithook(recorder.hook)
        os.fsync = recorder.fsync
        program(recorder)
        recorder.look()
        recorder._looking = True
        answer.write_bytes(pickle.dumps(recorder.moments))
        return 0

    assert exit_code(fork(body)) == 0
    return pickle.loads(answer.read_bytes())


def crashes(moments: list[Moment], seed: int, most: int) -> dict[Tree, int]:
    """Distinct trees that a power cut may leave, with the strongest promise given before it.

    Of a moment with more than ``most`` of them: nothing pending kept, all kept, and random ones.
    """
    rng, found = random.Random(seed), dict[Tree, int]()
    for moment in moments:
        inodes = list(moment.contents)
        options = [_options(moment.contents[inode]) for inode in inodes]
        choices: Iterator[tuple[Content, ...]] = product(*options)
        if prod(map(len, options)) > most:
            drawn = [tuple(map(rng.choice, options)) for _ in range(most - 2)]
            choices = iter([tuple(o[0] for o in options), tuple(o[-1] for o in options), *drawn])
        for choice in choices:
            tree = tuple(sorted(_tree(dict(zip(inodes, choice, strict=True)), moment.root)))
            found[tree] = max(moment.promise, found.get(tree, 0))
    return found


def build(tree: Tree, folder: Path) -> Path:
    """Make the tree on the real disk."""
    folder.mkdir()
    for name, data in tree:
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)
    return folder


def _options(contents: tuple[Content, ...]) -> list[Content]:
    """What may be left, the durable first and the newest last."""
    durable, *later = contents
    if isinstance(durable, dict):
        changes = [_change(before, after) for before, after in pairwise(contents)]
        return [_apply(durable, kept) for kept in _subsets(changes)]
    forms: list[Content] = [durable]
    for data in later:
        half, size = data[: len(data) // 2], len(data)
        forms += [b"", half, half + bytes(size - len(half)), bytes(size), data]
    return forms


def _subsets(changes: list[Change]) -> list[list[Change]]:
    """All; of many changes the first so many of them, and all but one."""
    count = len(changes)
    if count <= SUBSETS_OF:
        masks = list(product((False, True), repeat=count))
    else:
        masks = [tuple(number < size for number in range(count)) for size in range(count)]
        masks += [tuple(number != lost for number in range(count)) for lost in range(count + 1)]
    return [[change for change, kept in zip(changes, mask, strict=True) if kept] for mask in masks]


def _change(before: Any, after: Any) -> Change:
    names = before.keys() | after.keys()
    return {n: (before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)}


def _apply(durable: dict[str, int], changes: list[Change]) -> dict[str, int]:
    entries: dict[str, int | None] = dict(durable)
    for change in changes:
        if all(entries.get(name) == was for name, (was, _) in change.items()):
            entries |= {name: becomes for name, (_, becomes) in change.items()}
    return {name: inode for name, inode in entries.items() if inode is not None}


def _tree(contents: dict[int, Content], inode: int, at: str = "") -> Iterator[tuple[str, bytes | None]]:
    folder = contents[inode]
    assert isinstance(folder, dict)
    for name, child in folder.items():
        content = contents[child]
        if isinstance(content, bytes):
            yield at + name, content
        else:
            yield at + name, None
            yield from _tree(contents, child, f"{at}{name}/")
