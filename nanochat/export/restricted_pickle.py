"""Pickles of strangers. A pickle is a program, and the usual reader runs it; nothing here runs anything.

``check`` only looks at the instructions: which there are, and which names they ask for. ``read`` follows the
few that build plain data and one kind of object, of which it makes a note instead of the object.
"""

from __future__ import annotations

import pickletools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from artifacts.errors import DataError

SAFE = "nothing of it was run"
MAX_PICKLE_BYTES = 64 << 20

_PLACES = {"PROTO", "FRAME", "STOP", "MARK"}
_VALUES = {
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BININT", "BININT1", "BININT2", "LONG1", "NONE", "NEWTRUE", "NEWFALSE",
}  # fmt: skip
_MEMO = {"MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"}
_CONTAINERS = {"EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_TUPLE"}
_READ = _PLACES | _VALUES | _MEMO | _CONTAINERS | {"GLOBAL", "STACK_GLOBAL", "NEWOBJ", "BUILD"}
# What torch.save writes of a dictionary of tensors.
_CHECKED = _PLACES | _VALUES | _MEMO | _CONTAINERS | {
    "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "GLOBAL", "REDUCE", "BINPERSID", "BUILD", "BINFLOAT",
    "EMPTY_LIST", "APPEND", "APPENDS",
}  # fmt: skip


@dataclass(eq=False)
class Note:
    """Where a pickle would make an object: the name of its class, and the state it would be given."""

    name: str
    state: Any = None


@dataclass(frozen=True, eq=False)
class _Class:
    name: str


def check(data: bytes, globals_: Collection[str], where: str) -> None:
    """Look at every instruction. Raises DataError for an unusual one, and for a name not in ``globals_``.

    Names are written as in pickles: ``collections OrderedDict``.
    """
    for name, argument in _instructions(data, where):
        if name not in _CHECKED:
            raise DataError(f"{where}: its pickle has the instruction {name}, which is not allowed", SAFE)
        if name == "GLOBAL" and argument not in globals_:
            raise _forbidden(where, argument)


def read(data: bytes, class_: str, where: str) -> Any:
    """The plain data of a pickle, with a ``Note`` for each object of ``class_``.

    Raises DataError for anything else in it.
    """
    try:
        return _Reader(class_, where).run(data)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{where} is no readable pickle: {type(error).__name__}", SAFE) from None


class _Reader:
    def __init__(self, class_: str, where: str) -> None:
        self._class, self._where = class_, where
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for name, argument in _instructions(data, self._where):
            if name not in _READ:
                message = f"{self._where}: its pickle has the instruction {name}, which is not allowed"
                raise DataError(message, SAFE)
            self._step(name, argument)
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append({"NEWTRUE": True, "NEWFALSE": False}.get(name, argument))
        elif name in _MEMO:
            self._remember(name, argument)
        elif name == "MARK":
            self._below.append(stack)
            self._stack = []
        elif name in _CONTAINERS:
            self._contain(name)
        elif name == "GLOBAL":
            stack.append(self._named(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not isinstance(attribute, str) or not isinstance(module, str):
                raise TypeError  # not formatted: dictionaries that share each other become endless text
            stack.append(self._named(f"{module} {attribute}"))
        elif name in ("NEWOBJ", "BUILD"):
            self._make(name)

    def _remember(self, name: str, argument: Any) -> None:
        if name.endswith("GET"):
            self._stack.append(self._memo[argument])
        else:
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._stack[-1]

    def _contain(self, name: str) -> None:
        if name == "EMPTY_DICT":
            self._stack.append({})
        elif name == "EMPTY_TUPLE":
            self._stack.append(())
        else:
            if name == "SETITEMS":
                items, self._stack = self._stack, self._below.pop()
            else:
                items, self._stack = self._stack[-2:], self._stack[:-2]
            target = self._stack[-1]
            if type(target) is not dict:
                raise TypeError
            target.update(zip(items[::2], items[1::2], strict=True))

    def _named(self, name: str) -> _Class:
        if name != self._class:
            raise _forbidden(self._where, name)
        return _Class(name)

    def _make(self, name: str) -> None:
        given, target = self._stack.pop(), self._stack.pop()
        if name == "NEWOBJ" and isinstance(target, _Class) and given == ():
            self._stack.append(Note(target.name))
        elif name == "BUILD" and isinstance(target, Note) and target.state is None:
            target.state = given
            self._stack.append(target)
        else:
            raise TypeError


def _instructions(data: bytes, where: str) -> Iterator[tuple[str, Any]]:
    """Name and argument of each instruction, up to the end of the pickle."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            yield opcode.name, argument
    except Exception as error:  # pickletools meets bytes that are no pickle in many ways
        raise DataError(f"{where} is no readable pickle: {type(error).__name__}", SAFE) from None


def _forbidden(where: str, name: str) -> DataError:
    return DataError(
        f"{where}: its pickle asks for {name.replace(' ', '.')!r:.80}, which is not allowed", SAFE
    )
