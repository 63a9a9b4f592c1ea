"""A raw docstring in, clean prose out: examples, tables, formulas, mark-up and licences are removed.

Documentation comes in plain text, reStructuredText, numpy and Google styles. What survives are paragraphs
of sentences, with section titles written ``Parameters:``.
"""

from __future__ import annotations

import inspect
import re
import unicodedata

MIN_LETTER_SHARE = 0.6  # below it a paragraph is a table, a drawing or numbers
MIN_WRAPPED_WIDTH = 45  # lines at least this long were wrapped by an editor and are joined again
_UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\ud800-\uf8ff\ufeff]")
_LETTERS = re.compile(r"[A-Za-z]+")
_LICENCE = re.compile(
    r"[Cc]opyright|[Aa]ll rights reserved|[Ll]icensed under|Permission is hereby|Redistribution and use"
    r"|(WITHOUT|without) (ANY )?WARRANT|SPDX-License"
)
_UNDERLINE = re.compile(r"^\s*([-=~^*#\"'+`_.])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"^\s*\.\. *([\w:|-]*)(?:::)?")
_ADMONITION = re.compile(r"^(\s*)\.\. *(note|warning|tip|important|caution|deprecated)::[ ]*", re.IGNORECASE)
_EXAMPLE = re.compile(r"^\s*(>>>|\$ |In \[\d|%|Traceback)")
_LIST_ITEM = re.compile(r"^\s*([-*•]|\d+[.)]|:\w|[\w*`.]+( ?\([^)]*\))? ?:(\s|$))")
_INLINE = (
    (":`", re.compile(r":(?:[\w+.-]+:)*[\w+.-]+:`[~!]?([^`<]+?)(?:\s*<[^`>]*>)?`"), r"`\1`"),  # :func:`x`
    ("``", re.compile(r"``([^`]+)``"), r"`\1`"),
    ("`_", re.compile(r"`([^`<]+?)\s*<[^`>]+>`_{1,2}"), r"\1"),  # `text <address>`_
    ("`_", re.compile(r"`([^`]+)`_{1,2}"), r"\1"),
    ("]_", re.compile(r"\s*\[[\w.#*]+\]_"), ""),  # a citation
    ("**", re.compile(r"\*\*([^*\s][^*]*)\*\*"), r"\1"),
    ("\\", re.compile(r"\\([*_`|])"), r"\1"),
    ("::", re.compile(r"::(?=\s|$)"), ":"),
)  # fmt: skip


def clean(docstring: str) -> str:
    """The readable part of ``docstring``; empty when nothing readable is in it."""
    text = _UNPRINTABLE.sub("", unicodedata.normalize("NFC", inspect.cleandoc(docstring.expandtabs())))
    kept: list[str] = []
    skip_indented = skip_section = False
    for block in re.split(r"\n\s*\n", text):
        lines, title = _split_title([line.rstrip() for line in block.split("\n")])
        if title:
            skip_section = title.lower() in {"references", "references:", "authors"}
            kept.append(title.rstrip(":") + ":")
        if not lines:
            continue
        indented = lines[0].startswith(" ")
        if skip_section or (skip_indented and indented):
            continue
        skip_indented = False
        lines = _strip_directive(lines)
        if not lines:
            skip_indented = True
        elif paragraph := _paragraph(lines):
            kept.append(paragraph)
    return "\n\n".join(_without_empty_sections(kept))


def _split_title(lines: list[str]) -> tuple[list[str], str]:
    """Take a title underlined with dashes off the front; other rulers are dropped."""
    title = ""
    if len(lines) > 1 and _UNDERLINE.match(lines[1]) and not _UNDERLINE.match(lines[0]):
        title, lines = lines[0].strip(), lines[2:]
    return [line for line in lines if line.strip() and not _UNDERLINE.match(line)], title


def _strip_directive(lines: list[str]) -> list[str]:
    """``.. note::`` becomes words; any other directive goes, with the lines that belong to it."""
    if _ADMONITION.match(lines[0]):
        first = _ADMONITION.sub(lambda match: f"{match[1]}{match[2].capitalize()}: ", lines[0])
        if first.endswith(": ") and len(lines) > 1:  # its text begins on the next line
            return [first + lines[1].lstrip(), *lines[2:]]
        return [first, *lines[1:]]
    return [] if _DIRECTIVE.match(lines[0]) and lines[0].lstrip().startswith("..") else lines


def _paragraph(lines: list[str]) -> str:
    """One block as text, or empty when it is an example, a table, a formula or a licence."""
    for position, line in enumerate(lines):
        if _EXAMPLE.match(line):
            lines = lines[:position]
            break
    lines = [line for line in lines if "+--" not in line and not line.lstrip().startswith(("|", ".. "))]
    text = "\n".join(lines)
    if text.count("\\") > 2 or not _is_prose(text) or _LICENCE.search(text):
        return ""
    return _unwrap(_without_markup(text).split("\n"))


def _without_markup(text: str) -> str:
    for marks, pattern, replacement in _INLINE:
        if marks in text:
            text = pattern.sub(replacement, text)
    return text


def _is_prose(text: str) -> bool:
    visible = sum(map(len, text.split()))
    letters = sum(map(len, _LETTERS.findall(text)))
    return visible > 0 and letters >= MIN_LETTER_SHARE * visible


def _unwrap(lines: list[str]) -> str:
    """Join lines that an editor wrapped; lists and short lines stay as they are."""
    joined: list[str] = []
    for line in lines:
        previous = joined[-1] if joined else ""
        same_indent = len(previous) - len(previous.lstrip()) == len(line) - len(line.lstrip())
        if len(previous) >= MIN_WRAPPED_WIDTH and same_indent and not _LIST_ITEM.match(line):
            joined[-1] = f"{previous} {line.lstrip()}"
        else:
            joined.append(line)
    return "\n".join(joined)


def _without_empty_sections(paragraphs: list[str]) -> list[str]:
    following = [*paragraphs[1:], ":"][: len(paragraphs)]
    return [
        paragraph
        for paragraph, after in zip(paragraphs, following, strict=True)
        if not (_is_title(paragraph) and _is_title(after))
    ]


def _is_title(paragraph: str) -> bool:
    return paragraph.endswith(":") and "\n" not in paragraph and len(paragraph) < 40


def first_sentence(text: str) -> str:
    """The first sentence of clean text on one line, ending in a full stop; empty if there is none."""
    paragraph = " ".join(text.split("\n\n", 1)[0].split())
    match = re.match(r"(.+?[.])(?:\s+[A-Z`(]|$)", paragraph)
    if match:
        return match[1]
    return "" if paragraph.endswith((":", ",", ";", "!", "?")) or not paragraph else paragraph + "."
