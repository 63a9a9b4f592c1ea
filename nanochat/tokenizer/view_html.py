"""The parts as HTML: a page of its own, or the inside of one. It loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from nanochat.tokenizer.parts import Part
from nanochat.tokenizer.view import Table, TextView, TokenView, runs, visible

NUM_COLOURS = 6
MOST_TOKENS = 2000  # of one text; a browser should not have to lay out a book
LEGEND = "Underlined: what the model is trained to say. Grey: what it only reads."

PAGE_STYLE = """
:root { color-scheme: light dark; --page: #fbfaf8; --card: #fff; --ink: #1d1f23; --soft: #5d616a;
  --rule: #e3e1dc; --accent: #3457a6; }
@media (prefers-color-scheme: dark) { :root { --page: #14161a; --card: #1c1f25; --ink: #e8e6e1;
  --soft: #a0a4ad; --rule: #31353d; --accent: #8fb0f5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: .6rem;
  padding: .9rem 1.1rem; margin-top: 1rem; }
.soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; font-weight: 400;
  border-top: 1px solid var(--rule); }
thead th { border-top: 0; color: var(--soft); font-size: .85rem; }
"""
STYLE = """
.facts { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem;
  color: var(--soft); }
.strip { font: 1rem/2.1 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  max-width: none; margin: .8rem 0; }
.strip bdi { padding: .2em .08em; border-radius: .25em; background: hsl(var(--hue) 75% 84%);
  box-decoration-break: clone; -webkit-box-decoration-break: clone; }
.strip i { font-style: normal; opacity: .5; }
.c0 { --hue: 210; } .c1 { --hue: 35; } .c2 { --hue: 140; } .c3 { --hue: 330; } .c4 { --hue: 265; }
.c5 { --hue: 180; }
.strip .cut { font-size: .8em; }
.strip .special { background: none; border: 1px solid var(--soft); font-size: .8em; }
.strip .read { background: var(--page); color: var(--soft); box-shadow: inset 0 0 0 1px var(--rule); }
.strip .trained { text-decoration: underline 2px; text-underline-offset: .3em; }
.card summary { cursor: pointer; color: var(--soft); }
.tokens td { white-space: nowrap; }
.tokens td:last-child, .tokens td:nth-last-child(3) { font: .87em/1.7 ui-monospace, monospace; }
@media (max-width: 30rem) {
  .tokens :is(th, td):is(:nth-last-child(6), :nth-last-child(4)) { display: none; } }
@media (prefers-color-scheme: dark) {
  .strip bdi:not(.read, .special) { background: hsl(var(--hue) 35% 30%); } }
@media print { .card { break-inside: avoid; } }
"""


def page(title: str, parts: Iterable[Part]) -> str:
    """A self-contained page, which follows the reader's light or dark mode."""
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{PAGE_STYLE}{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{fragment(parts)}
</main>
</body>
</html>
"""


def fragment(parts: Iterable[Part]) -> str:
    """The parts alone, for a page that has ``STYLE``."""
    sections: list[str] = []
    for part in parts:
        several = len(part.views) > 1
        sections += [_view(view, number if several else 0) for number, view in enumerate(part.views, 1)]
        sections += [f"<h2>{escape(table.title)}</h2>{_table(table)}" for table in part.tables]
    return "\n".join(f'<section class="card">{section}</section>' for section in sections)


def _view(view: TextView, number: int) -> str:
    """A text or the conversation of that number; 0: there is only one, whose table is open."""
    heading = f"<h2>Conversation {number}</h2>" if number else ""
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in view.facts())
    strip = "<br>".join("".join(map(_token, run)) for run in runs(view.tokens[:MOST_TOKENS]))
    legend = "" if view.trained is None else f'<p class="soft">{LEGEND}</p>'
    table = _table(view.table(MOST_TOKENS), "tokens")
    return (
        f'{heading}<ul class="facts">{facts}</ul><p class="strip">{strip}</p>{legend}'
        f"<details{'' if number else ' open'}><summary>Each token</summary>{table}</details>"
    )


def _token(token: TokenView) -> str:
    """One token of the strip; its spaces and line ends are those of the text."""
    classes = [f"c{token.index % NUM_COLOURS}"]
    classes += ["special"] * (token.kind == "special") + ["cut"] * bool(token.part_of)
    classes += ["trained"] * (token.trained is True) + ["read"] * (token.trained is False)
    part = f", part of {visible(token.part_of.encode())}" if token.part_of else ""
    about = f"id {token.id}, {token.kind}{' ' * bool(token.data)}{token.data.hex(' ')}{part}"
    lines = (escape(visible(line, space=" ")) for line in token.data.split(b"\n"))
    text = escape(token.name) or "<i>\\n</i>\n".join(lines)
    inside = text.removesuffix("\n")  # at the end of a line its box would go on in the next one
    return (
        f'<bdi class="{" ".join(classes)}" title="{escape(about)}">{inside}</bdi>{text[len(inside) :]}<wbr>'
    )


def _table(table: Table, kind: str = "") -> str:
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    note = f'<p class="soft">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"
