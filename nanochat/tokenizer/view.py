"""What a tokenizer makes of a text or of a conversation, token by token and byte by byte.

Nothing here knows a terminal or HTML: ``as_dict`` is for programs, ``facts`` and ``table`` for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nanochat.tokenizer.chat import Conversation, render_conversation
from nanochat.tokenizer.tokenizer import Tokenizer

COLUMNS = ("index", "id", "bytes", "hex", "class", "text")
SPACE = "␣"  # how tables show a space, which one would not see at the end of a token
LONGEST_TEXT, LONGEST_HEX = 33, 12  # characters and bytes of a cell


@dataclass(frozen=True)
class Table:
    """Rows of text under ``columns``, with a title and what is to be said below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class TokenView:
    """One token of a text."""

    index: int
    id: int
    data: bytes
    """What it stands for in the text; nothing if it is special."""
    kind: str
    """special, single byte, partial, whitespace, alphabetic, numeric, alphanumeric or mixed."""
    part_of: str
    """The characters that its bytes belong to, if it cuts one in two; else ""."""
    name: str = ""
    """Of a special token: how it is written."""
    trained: bool | None = None
    """In a conversation: whether the model is trained to say it."""

    @property
    def text(self) -> str | None:
        """Its characters, or its name; None if some of its bytes are only a part of a character."""
        try:
            return self.name or self.data.decode()
        except UnicodeDecodeError:
            return None

    def as_dict(self) -> dict[str, Any]:
        known = {
            "index": self.index, "id": self.id, "text": self.text, "bytes": self.data.hex(),
            "class": self.kind, "part_of": self.part_of or None,
        }  # fmt: skip
        return known if self.trained is None else {**known, "trained": self.trained}

    def row(self) -> tuple[str, ...]:
        """Its cells under ``COLUMNS``."""
        hexed = self.data[:LONGEST_HEX].hex(" ") + (" …" if len(self.data) > LONGEST_HEX else "")
        whole = f"   part of {visible(self.part_of.encode())}" if self.part_of else ""
        text = shortened(self.name or visible(self.data)) + whole
        return (str(self.index), str(self.id), str(len(self.data)), hexed, self.kind, text)


@dataclass(frozen=True)
class TextView:
    """A text and its tokens. Of a conversation, the text is what its tokens stand for."""

    text: str
    tokens: tuple[TokenView, ...]

    @cached_property
    def data(self) -> bytes:
        """The bytes of all tokens, joined."""
        return b"".join(token.data for token in self.tokens)

    @property
    def round_trip(self) -> bool:
        """Whether the tokens, joined, are the text again, byte for byte."""
        return self.data == self.text.encode()

    @property
    def trained(self) -> int | None:
        """How many tokens the model is trained to say; None if this is no conversation."""
        if not self.tokens or self.tokens[0].trained is None:
            return None
        return sum(bool(token.trained) for token in self.tokens)

    def statistics(self) -> dict[str, int | float]:
        """Counts and ratios; a ratio to nothing is 0."""
        tokens, characters, size = len(self.tokens), len(self.text), len(self.data)
        return {
            "tokens": tokens, "characters": characters, "bytes": size,
            "tokens_per_byte": tokens / size if size else 0.0,
            "characters_per_token": characters / tokens if tokens else 0.0,
            **({} if self.trained is None else {"trained_tokens": self.trained}),
        }  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        tokens = [token.as_dict() for token in self.tokens]
        check = {"round_trip": self.round_trip} if self.trained is None else {}
        return {"text": self.text, **self.statistics(), **check, "tokens": tokens}

    def facts(self) -> list[str]:
        """The counts and ratios in words, and a warning if the tokens are not the text again."""
        found = self.statistics()
        said = [
            counted(len(self.tokens), "token"), counted(len(self.text), "character"),
            counted(len(self.data), "byte"), f"{found['tokens_per_byte']:.3f} tokens/byte",
            f"{found['characters_per_token']:.2f} characters/token",
        ]  # fmt: skip
        if self.trained is not None:
            said.append(f"{self.trained} trained ({self.trained / len(self.tokens):.0%})")
        return said if self.round_trip else [*said, "WARNING: the tokens are not the text again"]

    def table(self, most: int) -> Table:
        """A row for each of the first ``most`` tokens; in a conversation also whether it is trained on."""
        shown = self.tokens[:most]
        left = len(self.tokens) - len(shown)
        note = f"The first {counted(most, 'token')}; {left:,} more are not shown." if left else ""
        if self.trained is None:
            return Table("", COLUMNS, [token.row() for token in shown], note)
        rows = [("yes" if token.trained else "", *token.row()) for token in shown]
        return Table("", ("trained", *COLUMNS), rows, note)


def runs(tokens: Sequence[TokenView]) -> Iterator[Sequence[TokenView]]:
    """Neighbours that are all trained, or all not; a turn begins a run of its own. Of a text, all tokens."""
    begin = 0
    for end in range(1, len(tokens) + 1):
        if end == len(tokens) or _begins_anew(tokens[end - 1], tokens[end]):
            yield tokens[begin:end]
            begin = end


def _begins_anew(before: TokenView, here: TokenView) -> bool:
    opens = here.name in ("<|user_start|>", "<|assistant_start|>")
    return opens or before.trained is not here.trained


def view_text(tokenizer: Tokenizer, text: str) -> TextView:
    """The tokens of a text. Raises DataError for a lone surrogate."""
    return TextView(text, tuple(_tokens(tokenizer, tokenizer.encode(text))))


def view_conversation(tokenizer: Tokenizer, conversation: Conversation) -> TextView:
    """The tokens of a conversation as training renders it, each with whether it is trained on.

    Raises DataError that names a malformed message.
    """
    ids, mask = render_conversation(tokenizer, conversation)
    tokens = tuple(_tokens(tokenizer, ids, [bool(trained) for trained in mask]))
    return TextView(b"".join(token.data for token in tokens).decode(errors="replace"), tokens)


def _tokens(
    tokenizer: Tokenizer, ids: Sequence[int], trained: Sequence[bool] | None = None
) -> Iterator[TokenView]:
    ordinary = len(tokenizer.tokens)
    pieces = [tokenizer.tokens[id_] if id_ < ordinary else b"" for id_ in ids]
    whole, begin = b"".join(pieces), 0
    for index, (id_, data) in enumerate(zip(ids, pieces, strict=True)):
        end = begin + len(data)
        kind = "special" if id_ >= ordinary else _class_of(id_, data)
        name = "" if id_ < ordinary else tokenizer.decode([id_])
        mark = None if trained is None else trained[index]
        yield TokenView(index, id_, data, kind, _characters(whole, begin, end), name, mark)
        begin = end


def _is_inside(data: bytes, at: int) -> bool:
    """Whether the byte at that place goes on with a character that began before."""
    return 0 < at < len(data) and data[at] & 0xC0 == 0x80


def _characters(data: bytes, begin: int, end: int) -> str:
    """The characters that ``data[begin:end]`` has bytes of; "" if it holds all of theirs."""
    first, last = begin, end
    while _is_inside(data, first):
        first -= 1
    while _is_inside(data, last):
        last += 1
    return "" if (first, last) == (begin, end) else data[first:last].decode(errors="replace")


def _class_of(id_: int, data: bytes) -> str:
    """The class of an ordinary token. White space around a word, as in `` the``, does not count."""
    if id_ < 256:
        return "single byte"
    try:
        word = data.decode().strip()
    except UnicodeDecodeError:
        return "partial"
    if not word:
        return "whitespace"
    if word.isalpha():
        return "alphabetic"
    if word.isdecimal():
        return "numeric"
    return "alphanumeric" if word.isalnum() else "mixed"


def visible(data: bytes, space: str = SPACE) -> str:
    r"""Bytes as text that hides nothing and that no terminal obeys.

    A byte that is no whole character is ``\xf0``, an invisible character ``\n`` or ``\u200b``, a backslash
    two of them.
    """
    return "".join(_visible(character, space) for character in data.decode(errors="surrogateescape"))


def _visible(character: str, space: str) -> str:
    code = ord(character)
    if character == " ":
        return space
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    if code < 128:
        return character.encode("unicode_escape").decode()
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shortened(text: str, length: int = LONGEST_TEXT) -> str:
    """The text, or its beginning and ``…``, in at most ``length`` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def counted(number: int, what: str) -> str:
    """``1 token``, ``1,234 tokens``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
