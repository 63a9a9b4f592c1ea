"""What the campaigns draw: nasty texts, patterns, vocabularies and objects of the wrong type."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

import rustbpe

BYTES = [bytes([byte]) for byte in range(256)]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u2003", "\u2028", "\u3000", "\v", "\x85", "\x1c"]
WORDS = [
    "the", " of", " and", "don't", "I'LL", "'ſ", "’s", "''''", "naïve", "e\u0301", "ǅ", "İı", "ﬃ", "K\u212a",
    "1234567", "٣٤٥", "Ⅷ½²", "漢字かな", "한국어", "עברית\u200f", "\u202eabc", "🤖", "👩\u200d👩\u200d👧",
    "🏳️\u200d🌈", "\ufeff", "\0", "\x7f", "\ufffd", "\uffff", "\U0010ffff", "\U000e0041", "<|bos|>", "<|",
    "…!?---", "()[]{}\\^$.|?*+",
]  # fmt: skip
PLANES = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]


def character(draw: random.Random) -> str:
    return chr(draw.randrange(*draw.choice(PLANES)))


def text(draw: random.Random, size: int = 60) -> str:
    """Up to about ``size`` pieces of nasty text; seldom one long run."""
    kind = draw.random()
    if kind < 0.05:
        return draw.choice([character(draw), draw.choice(WORDS), " "]) * draw.randrange(20_000)
    if kind < 0.15:
        return draw.randbytes(draw.randrange(4 * size)).decode(errors="replace")
    if kind < 0.25:
        return "".join(draw.choices("ab", k=draw.randrange(4 * size)))
    few = draw.sample(WORDS, 3) + draw.sample(SPACES, 2)
    sources: list[Callable[[], str]] = [
        lambda: draw.choice(WORDS), lambda: draw.choice(SPACES), lambda: character(draw),
        lambda: draw.choice(few), lambda: str(draw.randrange(10**6)),
    ]  # fmt: skip
    return "".join(draw.choice(sources)() for _ in range(draw.randrange(size)))


def texts(draw: random.Random, most: int = 12) -> list[str]:
    return [text(draw) for _ in range(draw.randrange(most))]


def with_surrogate(draw: random.Random, value: str) -> str:
    at = draw.randrange(len(value) + 1)
    return value[:at] + chr(draw.randrange(0xD800, 0xE000)) + value[at:]


ATOMS = [
    "a", "b", "'", " ", ".", "\\.", "\\s", "\\S", "\\d", "\\w", "\\W", "\\b", "^", "$", "\\A", "\\z",
    "\\p{L}",
    "\\p{N}", "\\P{Lu}", "[^\\s]", "[a-z]", "[^\\r\\n\\p{L}\\p{N}]", "\\x41", "\\u00e9", "é", "漢", "\\R",
    "\\X",
    "[[:alpha:]]", "\\n", "\\t", "[a&&b]", "",
]  # fmt: skip
QUANTIFIERS = ["", "", "", "*", "+", "?", "*?", "++", "?+", "{1,2}", "{2}", "{0,3}?", "{3,}"]
GROUPS = [
    "({})",
    "(?:{})",
    "(?i:{})",
    "(?={})",
    "(?!{})",
    "(?<={})",
    "(?<!{})",
    "(?>{})",
    "(?P<n>{})",
    "(?m:{})",
]
BROKEN = [
    "(", ")", "[", "]", "{", "}", "*", "(?", "(?<", "\\", "\\p{Nonsense}", "\\1", "\\9", "(?P=m)", "a{3,1}",
    "a{99999999999}", "((a{1000}){1000}){1000}", "[z-a]", "(?i", "\\k<x>", "(a*)*b", "(?R)", "\\G",
    "\\K", "\0",
    "(a|a)*c", "\udc00", "\\x{110000}", "(?#", "(?x) a # c",
]  # fmt: skip


def expression(draw: random.Random, depth: int = 3) -> str:
    """A regular expression that is mostly valid."""
    kind = draw.random()
    if depth == 0 or kind < 0.35:
        return draw.choice(ATOMS) + draw.choice(QUANTIFIERS)
    if kind < 0.6:
        return "".join(expression(draw, depth - 1) for _ in range(draw.randint(1, 3)))
    if kind < 0.8:
        return "|".join(expression(draw, depth - 1) for _ in range(draw.randint(2, 3)))
    return draw.choice(GROUPS).format(expression(draw, depth - 1)) + draw.choice(QUANTIFIERS)


def mutated(draw: random.Random, value: str) -> str:
    """``value`` with a few characters removed, doubled or replaced."""
    letters = list(value)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(letters) + 1)
        letters[at : at + draw.randrange(3)] = draw.choice([[], letters[:at][-3:], list(draw.choice(BROKEN))])
    return "".join(letters)


def pattern(draw: random.Random) -> str:
    """A pattern: drawn, nanochat's with a few characters changed, or broken."""
    kind = draw.random()
    if kind < 0.6:
        return expression(draw)
    if kind < 0.85:
        return mutated(draw, rustbpe.DEFAULT_PATTERN)
    return draw.choice(BROKEN) + (expression(draw) if draw.random() < 0.5 else "")


def reachable(token: bytes, rank_of: dict[bytes, int]) -> bool:
    """Merging by rank, the lowest first, joins all bytes of ``token`` to two tokens."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        joined = [rank_of.get(left + right, len(rank_of)) for left, right in pairwise(parts)]
        at = min(range(len(joined)), key=joined.__getitem__)
        if joined[at] == len(rank_of):
            return False
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return True


def ranks(draw: random.Random, merges: int = 200) -> list[bytes]:
    """A vocabulary that is in order: bytes, then joins of two earlier tokens, mostly of letters."""
    tokens = list(BYTES)
    draw.shuffle(tokens)
    rank_of = {token: rank for rank, token in enumerate(tokens)}
    common = [bytes([byte]) for byte in b"ab e\n\xe6\xbc\xa2"]
    for _ in range(draw.randrange(merges)):
        left, right = draw.choices(common, k=2) if draw.random() < 0.9 else draw.choices(tokens, k=2)
        token = left + right
        if len(token) <= 24 and token not in rank_of and reachable(token, rank_of):
            rank_of[token] = len(tokens)
            tokens.append(token)
            common.append(token)
    return tokens


def tampered(draw: random.Random, tokens: list[bytes]) -> Any:
    """``tokens`` with one to three things wrong; now and then nothing."""
    tokens = list(tokens)
    for _ in range(draw.randrange(4)):
        at, other = draw.randrange(len(tokens) or 1), draw.randrange(len(tokens) or 1)
        kind = draw.randrange(9)
        if not tokens:
            break
        if kind == 0:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        elif kind == 1:
            del tokens[at]
        elif kind == 2:
            tokens.insert(at, tokens[other])
        elif kind == 3:
            tokens = tokens[:at]
        elif kind == 4:
            tokens[at] = b""
        elif kind == 5:
            tokens.append(draw.randbytes(draw.randint(1, 6)))
        elif kind == 6:
            tokens.append(b"a" * draw.choice([3, 100, 70_000]))
        elif kind == 7:
            draw.shuffle(tokens)
        else:
            tokens[at] = draw.choice([None, 3, "a", bytearray(b"a"), ["a"]])  # type: ignore[call-overload]
    return draw.choice([list, list, list, tuple, iter, lambda all_: dict.fromkeys(map(repr, all_))])(tokens)


class Deliberate(Exception):
    """Raised by the objects below."""


class Raises:
    """Anything that is done with it fails."""

    def _fail(self, *_: object) -> Any:
        raise Deliberate

    __iter__ = __len__ = __getitem__ = __index__ = __str__ = __repr__ = __hash__ = __eq__ = _fail  # type: ignore[assignment]
    __call__ = __bool__ = __fspath__ = __float__ = __arrow_c_array__ = _fail


class Lying(Sequence[Any]):
    """A sequence whose length is wrong."""

    def __init__(self, length: int, items: list[Any]) -> None:
        self.length, self.items = length, items

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: Any) -> Any:
        return self.items[at]


class Claims:
    """Says that it is an Arrow array, and hands over something else."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def __arrow_c_array__(self, requested_schema: object = None) -> Any:
        return self.what


class FakeArray:
    """Says of itself what a pyarrow array says, not always the truth."""

    def __init__(self, draw: random.Random) -> None:
        data = text(draw).encode()
        ends = sorted(draw.randrange(len(data) + 1) for _ in range(draw.randrange(5)))
        offsets = b"".join(at.to_bytes(4, "little") for at in (0, *ends))
        self.type = draw.choice(["string", "string", "large_string", "list", None])
        self.null_count: Any = draw.choice([0, 0, 0, 1, -1, None])
        self.offset: Any = draw.choice([0, 0, 0, 1, 2**32, 2**62, 2**63, 2**64 - 1, -1, None])
        self.length = draw.choice([len(ends), len(ends), 0, 1, len(ends) + 1, 2**61, 2**62, 2**63 - 1])
        parts: list[Any] = [None, odd_buffer(draw, offsets), odd_buffer(draw, data)]
        self.parts = parts[: draw.choice([3, 3, 3, 2])]

    def __len__(self) -> int:
        return self.length

    def buffers(self) -> list[Any]:
        return self.parts


def backwards(draw: random.Random) -> FakeArray:
    """One text of ``a`` whose buffer runs backwards: reading on from where it begins leaves its memory."""
    array, size = FakeArray(draw), 5000
    array.type, array.null_count, array.offset, array.length = "string", 0, 0, 1
    ends = pa.py_buffer(bytes(4) + size.to_bytes(4, "little"))
    array.parts = [None, ends, memoryview(b"a" * size).cast("b")[::-1]]
    return array


def odd_buffer(draw: random.Random, data: bytes) -> Any:
    """``data`` as Arrow's buffers are, or not quite: shorter, random, backwards, strided, of other items."""
    if draw.random() < 0.6:
        return pa.py_buffer(data)
    signed, wide = memoryview(data).cast("b"), np.frombuffer(data[: len(data) // 4 * 4], np.uint32)
    noise = pa.py_buffer(draw.randbytes(len(data)))
    return draw.choice([None, pa.py_buffer(b""), signed[:-1], noise, signed[::-1], signed[::2], wide, data])


def failing() -> Iterator[str]:
    yield "text"
    raise Deliberate


def endless_depth() -> list[Any]:
    deep: list[Any] = []
    deep.append(deep)
    return deep


def junk(draw: random.Random) -> Any:
    """Anything but what is asked for, and now and then exactly that."""
    return draw.choice([
        lambda: None, lambda: True, lambda: 0, lambda: -1, lambda: 1, lambda: 300, lambda: 2**31,
        lambda: 2**64,
        lambda: -(2**63), lambda: 10**30, lambda: 1.5, lambda: float("nan"), lambda: "text", lambda: "",
        lambda: "\ud800", lambda: b"bytes", lambda: bytearray(b"a"), list, dict, set, tuple,
        lambda: ["a", "b"],
        lambda: ["a", None], lambda: [1, 2], lambda: [[]], lambda: {"a": 1}, lambda: {"a": -1},
        lambda: {"": 300},
        lambda: {1: "a"}, lambda: iter(["a"]), lambda: range(5), failing, endless_depth, object, Raises,
        lambda: Lying(2**62, ["a"]), lambda: Lying(3, ["a"]), lambda: Lying(0, ["a"]), lambda: len,
        lambda: Deliberate, lambda: np.arange(5), lambda: np.array(["a", "b"]), lambda: np.float64(3),
        lambda: memoryview(b"ab"), lambda: BYTES, lambda: 1j, lambda: Claims(None), lambda: Claims((1, 2)),
        lambda: Claims(()), lambda: rustbpe.Encoder, lambda: [text(draw)], lambda: text(draw),
    ])()  # fmt: skip
