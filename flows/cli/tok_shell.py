"""``nanochat tok view --interactive``: every line that is typed, token by token."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

from artifacts.errors import NanochatError
from flows.cli.tok_open import Opened
from flows.cli.tok_show import show
from nanochat.tokenizer.comparison import compare
from nanochat.tokenizer.parts import comparison_part, special_part, text_part, vocabulary_part

HELP = """\
Type a text to see its tokens. A line that is one of these words is a command:
  special   the special tokens
  vocab     what is in the vocabulary
  compare   all texts so far side by side
  help      this list
  quit      end (also exit, q, Ctrl-D, Ctrl-C)
To see the tokens of such a word, write a backslash in front: \\special"""
ENDS = ("quit", "exit", "q")
WORDS = ("special", "vocab", "compare", "help", *ENDS)


def run(opened: Opened) -> None:
    """Answer lines until one of ``ENDS``, the end of input, or Ctrl-C."""
    print(f"{opened.name}. {HELP}", file=sys.stderr)
    texts: list[str] = []
    try:
        for line in _typed():
            if line in ENDS:
                return
            try:
                _answer(opened, line, texts)
            except NanochatError as error:
                print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(file=sys.stderr)  # behind the ^C


def _answer(opened: Opened, line: str, texts: list[str]) -> None:
    """Print what a line asks for; a text is added to ``texts``."""
    if line == "help":
        print(HELP)
    elif line == "special":
        show(special_part(opened.tokenizer))
    elif line == "vocab":
        show(vocabulary_part(opened.tokenizer))
    elif line == "compare" and not texts:
        print("no text yet to compare: type some")
    elif line == "compare":
        encoders = {opened.name: opened.tokenizer.encode}
        show(comparison_part(compare(encoders, {text: text for text in texts})))
    else:
        text = line[1:] if line[:1] == "\\" and line[1:] in WORDS else line
        show(text_part(opened.tokenizer, text))
        texts.append(text)


def _typed() -> Iterator[str]:
    """Lines until the end of input; empty ones are passed over."""
    with suppress(ImportError):
        import readline  # noqa: F401  # arrow keys and a history
    prompt = "> " if sys.stdin.isatty() else ""
    with suppress(EOFError):
        while True:
            if line := input(prompt):
                yield line
