"""The parts of a tokenizer on a terminal: tokens as coloured strips, the rest as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.cli.output import print_table
from nanochat.tokenizer.view import Table, TextView, TokenView, runs, visible

if TYPE_CHECKING:
    from rich.console import Console

    from nanochat.tokenizer.parts import Part

MOST_TOKENS = 200  # of a table; JSON has them all
COLOURS = ("153", "223", "157", "218", "183", "159")  # of the terminal's 256: light ones, for black text
GREYS = ("250", "253")


def show(part: Part) -> None:
    """Print one part."""
    for number, view in enumerate(part.views, 1):
        if len(part.views) > 1:
            print(f"conversation {number}")
        _view(view, tabular=len(part.views) == 1)
    for table in part.tables:
        _table(table)


def _view(view: TextView, *, tabular: bool) -> None:
    """Print the facts, the tokens as a strip, and, if ``tabular``, a table of them."""
    print(", ".join(view.facts()))
    if not view.tokens:
        return
    print()
    console = _console()
    for run in runs(view.tokens):
        _strip(console, run)
    if not tabular:
        print()
        return
    _table(view.table(MOST_TOKENS), "--json has them all.")


def _table(table: Table, more: str = "") -> None:
    print_table(table.columns, table.rows)
    if table.note:
        print(f"{table.note} {more}".rstrip())


def _strip(console: Console, tokens: Sequence[TokenView]) -> None:
    """Tokens in a row, broken where the text is. Without colours, bars stand between them."""
    label = {None: "", True: "trained  ", False: "   read  "}[tokens[0].trained]
    line_end = "\n" + " " * len(label)
    if not console.is_terminal or console.no_color:
        print(label + "│".join(line_end.join(_lines(token)) for token in tokens))
        return
    from rich.text import Text

    text = Text().append(label, style="dim")
    for token in tokens:
        for number, line in enumerate(_lines(token)):
            text.append(line_end * (number > 0)).append(line, style=_style(token))
    console.print(text, soft_wrap=True)


def _lines(token: TokenView) -> list[str]:
    r"""What stands in each line that the token reaches; its line ends are shown, as ``\n``."""
    if token.name:
        return [token.name]
    *ended, last = (visible(line, space=" ") for line in token.data.split(b"\n"))
    return [*(f"{line}\\n" for line in ended), last]


def _style(token: TokenView) -> str:
    colours = GREYS if token.trained is False else COLOURS
    more = "bold " * (token.kind == "special") + "underline " * (token.trained is True)
    return f"{more}color(16) on color({colours[token.index % len(colours)]})"


def _console() -> Console:
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)
