"""``nanochat tok view``: what a tokenizer makes of a text, of a conversation, and what it knows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from artifacts.atomic import disk_errors
from artifacts.errors import DataError, UsageError
from flows.cli.options import Json, StoreUrl
from flows.cli.output import print_json
from flows.cli.tok_open import Opened, Ref, TokenizerPath, open_tokenizer, text_or_stdin

if TYPE_CHECKING:
    from nanochat.tokenizer.parts import Part

Flag = Parameter(negative="")
MOST_CONVERSATIONS = 10  # on a terminal and a page; JSON has them all


def view(
    text: str | None = None,
    /,
    *,
    interactive: Annotated[bool, Parameter(name=["-i", "--interactive"], negative="")] = False,
    special: Annotated[bool, Flag] = False,
    vocab: Annotated[bool, Flag] = False,
    compare: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    chat: Path | None = None,
    html: Annotated[bool, Flag] = False,
    ref: Ref = None,
    tokenizer: TokenizerPath = None,
    store: StoreUrl = None,
    json: Json = False,
) -> int:
    r"""Show a text token by token: ids, bytes, classes. Several of these may be asked for at once.

    A character that is cut in two is shown as bytes (\xf0), with what they are a part of.

    Parameters
    ----------
    text
        The text; without it and any of the below, lines that you type, or all of stdin.
    interactive
        Show every line that you type, until quit.
    special
        The special tokens, and what each is for.
    vocab
        What is in the vocabulary.
    compare
        How many tokens each of these texts becomes, beside GPT-2 and cl100k where tiktoken has them here.
    chat
        Conversations in JSON lines: how each is rendered, and which tokens are trained on.
    html
        Print a page instead: nanochat tok view TEXT --html > page.html
    """
    asked = any((text is not None, special, vocab, compare, chat))
    if interactive and (asked or html or json):
        raise UsageError("--interactive goes alone", "leave the rest out, and type")
    if html and json:
        raise UsageError("--html and --json exclude each other", "give one of them")
    opened = open_tokenizer(ref, tokenizer, store)
    if interactive or (not (asked or html or json) and sys.stdin.isatty()):
        from flows.cli.tok_shell import run

        run(opened)
        return 0
    if not (json or html or ref or tokenizer):
        print(opened.name, file=sys.stderr)
    parts = _texts(opened, text_or_stdin(text) if text is not None or not asked else None, compare)
    parts += _chat(opened, chat, every=json) if chat else []
    _print(opened, [*parts, *_knowledge(opened, special, vocab)], html=html, json=json)
    return 0


def _texts(opened: Opened, text: str | None, several: Sequence[str] | None) -> list[Part]:
    from nanochat.tokenizer.comparison import compare
    from nanochat.tokenizer.parts import comparison_part, text_part

    parts = [] if text is None else [text_part(opened.tokenizer, text)]
    if several:
        texts = {text: text for text in several}
        parts.append(comparison_part(compare({opened.name: opened.tokenizer.encode}, texts)))
    return parts


def _chat(opened: Opened, file: Path, *, every: bool) -> list[Part]:
    from nanochat.tasks.conversations import load_jsonl
    from nanochat.tokenizer.parts import chat_part

    if file.is_dir():
        raise UsageError(f"{file} is a folder", "name a file of conversations in JSON lines")
    with disk_errors(file):
        conversations = load_jsonl(file)
    if not conversations:
        raise DataError(
            f"{file} holds no conversation", 'write {"messages": [{"role": ..., "content": ...}]}'
        )
    shown = conversations if every else conversations[:MOST_CONVERSATIONS]
    if len(shown) < len(conversations):
        print(
            f"the first {len(shown)} of {len(conversations):,} conversations; --json has them all",
            file=sys.stderr,
        )
    return [chat_part(opened.tokenizer, shown)]


def _knowledge(opened: Opened, special: bool, vocab: bool) -> list[Part]:
    from nanochat.tokenizer.parts import special_part, vocabulary_part

    makers = [special_part] * special + [vocabulary_part] * vocab
    return [make(opened.tokenizer) for make in makers]


def _print(opened: Opened, parts: Sequence[Part], *, html: bool, json: bool) -> None:
    if json:
        known = {"tokenizer": opened.name, "vocab_size": opened.tokenizer.vocab_size}
        print_json(known | {part.key: part.value for part in parts})
    elif html:
        from nanochat.tokenizer.view_html import page

        print(page(opened.name, parts), end="")
    else:
        from flows.cli.tok_show import show

        for part in parts:
            show(part)
