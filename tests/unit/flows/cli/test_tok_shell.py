"""``nanochat tok view --interactive``: texts and commands, until the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
TypeIn = Callable[..., None]


@pytest.fixture
def typed(cli: Cli, tokenizer_folder: Path, type_in: TypeIn) -> Callable[..., Any]:
    """``typed("hello", "quit")``: what the command says to these lines."""

    def run(*lines: str, arguments: tuple[str, ...] = ("-i",), **more: Any) -> Any:
        type_in("".join(f"{line}\n" for line in lines).encode(), **more)
        return cli("tok", "view", *arguments, "--tokenizer", str(tokenizer_folder))

    return run


def test_every_line_is_shown_until_the_end(typed: Callable[..., Any]) -> None:
    out = typed("Q", "", "Q Q").out
    assert out.count("index") == 2
    assert "Q│ │Q" in out


@pytest.mark.parametrize("word", ["quit", "exit", "q"])
def test_a_word_ends_it(word: str, typed: Callable[..., Any]) -> None:
    assert "1 token" not in typed(word, "Q").out


def test_without_a_text_at_a_terminal_it_is_interactive(typed: Callable[..., Any]) -> None:
    ended = typed("Q", arguments=(), terminal=True)
    assert "1 token, 1 character" in ended.out
    assert "Type a text to see its tokens." in ended.err


def test_commands(typed: Callable[..., Any]) -> None:
    assert "<|python_start|>" in typed("special").out
    assert "merged from two others" in typed("vocab").out
    assert "quit      end" in typed("help").out
    assert typed("compare").out == "no text yet to compare: type some\n"
    out = typed("Q one", "Q two", "compare").out
    table = out[out.rindex("tokens/byte   bytes/token") :]
    assert [line.split()[-1] for line in table.splitlines() if "Q " in line] == ["one", "two"]


def test_a_backslash_makes_a_command_a_text(typed: Callable[..., Any]) -> None:
    assert "7 characters" in typed("\\special").out
    assert "2 characters" in typed("\\Q").out  # nothing to be told from a command


def test_a_line_that_cannot_be_encoded_does_not_end_it(
    typed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["\ud800", "Q"])

    def answer(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)
    ended = typed()
    assert "error: text cannot be encoded" in ended.err
    assert "1 token, 1 character" in ended.out


def test_an_interrupt_ends_it(typed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    assert typed().out == ""
