"""Tokens on a terminal have colours, elsewhere bars between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.text import Text

from flows.cli.tok_show import COLOURS, GREYS, show
from nanochat.tokenizer.parts import Part, chat_part, text_part
from nanochat.tokenizer.tokenizer import Tokenizer

CHAT = {"messages": [{"role": "user", "content": "QQ\nQ"}, {"role": "assistant", "content": "Q!"}]}


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder)


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """``shown(part, terminal=True)``: the printed lines down to the table."""

    def run(part: Part, *, terminal: bool = False, no_color: bool = False) -> list[str]:
        for name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name, raising=False)
        if terminal:
            monkeypatch.setenv("TTY_COMPATIBLE", "1")
            monkeypatch.setenv("TERM", "xterm-256color")
        if no_color:
            monkeypatch.setenv("NO_COLOR", "1")
        show(part)
        out = capsys.readouterr().out
        strip: str = out.split("\n\n")[1]  # after the facts, before the table
        return strip.splitlines()

    return run


def styles(line: str) -> list[tuple[str, str]]:
    """The coloured stretches of a line: what, and in which style."""
    text = Text.from_ansi(line)
    return [(text.plain[span.start : span.end], str(span.style)) for span in text.spans]


def test_without_a_terminal_bars_stand_between_tokens(
    tokenizer: Tokenizer, shown: Callable[..., list[str]]
) -> None:
    assert shown(text_part(tokenizer, "Q Q\nQ")) == ["Q│ │Q│\\n", "│Q"]
    assert shown(text_part(tokenizer, "Q|"), terminal=True, no_color=True) == ["Q│|"]


def test_on_a_terminal_neighbours_differ_in_colour(
    tokenizer: Tokenizer, shown: Callable[..., list[str]]
) -> None:
    first, second = shown(text_part(tokenizer, "Q Q\nQ🐍"), terminal=True)
    found = styles(first) + styles(second)
    assert [text for text, _ in found] == ["Q", " ", "Q", r"\n", "Q", r"\xf0", r"\x9f", r"\x90", r"\x8d"]
    assert [style.split("color(")[-1] for _, style in found] == [f"{(COLOURS * 2)[i]})" for i in range(9)]


def test_what_is_trained_is_underlined_and_the_rest_grey(
    tokenizer: Tokenizer, shown: Callable[..., list[str]]
) -> None:
    lines = shown(chat_part(tokenizer, [CHAT]), terminal=True)
    assert [Text.from_ansi(line).plain for line in lines] == [
        "   read  <|bos|>", r"   read  <|user_start|>QQ\n", "         Q<|user_end|>",
        "   read  <|assistant_start|>", "trained  Q!<|assistant_end|>",
    ]  # fmt: skip
    for line in lines:
        trained = Text.from_ansi(line).plain.startswith("trained")
        for text, style in styles(line):
            if "on color" in style:
                assert ("underline" in style) == trained
                assert (style.split("color(")[-1][:-1] in GREYS) != trained
                assert ("bold" in style) == text.startswith("<|")


def test_several_conversations_are_numbered_and_have_no_table(
    tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    show(chat_part(tokenizer, [CHAT, CHAT]))
    out = capsys.readouterr().out
    assert "conversation 2\n" in out
    assert "index" not in out
