"""The page: everything escaped, nothing loaded, every token there; and how a browser shows it."""

from __future__ import annotations

import html
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nanochat.tokenizer.parts import Part, chat_part, special_part, text_part, vocabulary_part
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.tokenizer.view import TextView, view_text
from nanochat.tokenizer.view_html import MOST_TOKENS, fragment, page

CHAT = {"messages": [
    {"role": "user", "content": "What is 37 + 45?\nPlease."},
    {"role": "assistant", "content": [
        {"type": "python", "text": "37+45"}, {"type": "python_output", "text": "82"},
        {"type": "text", "text": "37 + 45 = 82."},
    ]},
]}  # fmt: skip
HOSTILE = "</p><script>alert('x')</script> \" onmouseover=\"x <|bos|> \\n &amp; \u202e\x1b[31m"
LIGHT, DARK = (0xFB, 0xFA, 0xF8), (0x14, 0x16, 0x1A)  # --page


class Strip(HTMLParser):
    """Collects the tokens of the strip, and every tag and attribute there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tokens: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "bdi":
            self.tokens.append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "p"  # a line end stands behind its token

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.tokens[-1] += data


@pytest.fixture(scope="module")
def everything(tokenizer: Tokenizer) -> str:
    parts = [
        text_part(tokenizer, "naïve 🤖 café\n\tx " + "y" * 200), chat_part(tokenizer, [CHAT] * 2),
        special_part(tokenizer), vocabulary_part(tokenizer),
    ]  # fmt: skip
    return page("tokenizer/demo@v1 & <more>", parts)


def test_nothing_that_is_shown_becomes_markup(tokenizer: Tokenizer) -> None:
    @settings(max_examples=100, deadline=None)
    @given(st.one_of(st.just(HOSTILE), st.text(), st.text(alphabet="<>&'\"/! a\n\\")))
    def check(text: str) -> None:
        found = Strip(fragment([text_part(tokenizer, text)]))
        assert found.tags <= {
            "section", "ul", "li", "p", "bdi", "wbr", "i", "details", "summary", "div", "table", "thead",
            "tbody", "tr", "th", "td",
        }  # fmt: skip
        assert found.attributes <= {"class", "title", "tabindex", "scope", "open"}
        shown = [
            "\\n\n".join(part.decode(errors="surrogateescape") for part in token.data.split(b"\n"))
            for token in view_text(tokenizer, text).tokens
        ]
        assert len(found.tokens) == len(shown)
        plain = [re.fullmatch(r"[!-[\]-~ ]*", text) for text in shown]
        assert [a for a, b in zip(found.tokens, plain, strict=True) if b] == [
            a for a, b in zip(shown, plain, strict=True) if b
        ]

    check()


def test_nor_does_one_token_alone_or_what_stands_in_a_title() -> None:
    merges = (b"<b", b"<b>", b'"<', b'"<\xf0')
    tokenizer = Tokenizer((*(bytes([byte]) for byte in range(256)), *merges), pattern=r"(?s).+")
    shown = fragment([text_part(tokenizer, '<b>"<🐍')])
    assert 'part of &quot;&lt;🐍">&quot;&lt;\\xf0</bdi>' in shown
    assert Strip(shown).tokens == ["<b>", '"<\\xf0', r"\x9f", r"\x90", r"\x8d"]


def test_line_ends_are_kept_and_a_typed_backslash_n_is_none(tokenizer: Tokenizer) -> None:
    assert "".join(Strip(fragment([text_part(tokenizer, "a\nb\\n")])).tokens) == "a\\n\nb\\\\n"


def test_it_loads_and_runs_nothing(everything: str) -> None:
    assert "default-src 'none'" in everything
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|@import|\son\w+=", everything)
    assert "<h1>tokenizer/demo@v1 &amp; &lt;more&gt;</h1>" in everything


def test_a_conversation_marks_what_is_trained(tokenizer: Tokenizer) -> None:
    text = fragment([chat_part(tokenizer, [CHAT])])
    assert re.search(r'class="c\d special trained"[^>]*>&lt;\|python_start\|&gt;<', text)
    assert re.search(r'class="c\d special read"[^>]*>&lt;\|output_start\|&gt;<', text)
    assert "what the model is trained to say" in text
    assert "<details open>" in text
    assert "trained to say" not in fragment([text_part(tokenizer, "x")])
    assert "<h2>Conversation 2</h2>" in fragment([chat_part(tokenizer, [CHAT] * 2)])


def test_a_cut_character_says_what_it_is_a_part_of(tokenizer: Tokenizer) -> None:
    text = fragment([text_part(tokenizer, "🐍")])
    assert 'title="id 240, single byte f0, part of 🐍">\\xf0</bdi>' in text


def test_of_a_long_text_the_beginning(tokenizer: Tokenizer) -> None:
    one = view_text(tokenizer, "Q").tokens[0]
    text = fragment([Part("text", {}, views=[TextView("Q" * 3000, (one,) * 3000)])])
    assert len(Strip(text).tokens) == MOST_TOKENS
    assert f"{3000 - MOST_TOKENS:,} more are not shown" in text


def browse(chromium: str, profile: Path, file: Path, *options: str) -> str:
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        "--virtual-time-budget=3000", f"--user-data-dir={profile}", *options, file.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


@pytest.mark.needs("chromium")
@pytest.mark.parametrize(("scheme", "setting", "background"), [("light", 1, LIGHT), ("dark", 0, DARK)])
def test_the_page_follows_the_colour_scheme(
    scheme: str, setting: int, background: tuple[int, int, int],
    chromium: str, everything: str, test_output: Path, tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "page.html").write_text(everything, encoding="utf-8")
    picture = test_output / f"tokens-{scheme}.png"
    picture.unlink(missing_ok=True)
    browse(
        chromium, tmp_path / "profile", tmp_path / "page.html", "--window-size=1000,1600",
        f"--screenshot={picture}", f"--blink-settings=preferredColorScheme={setting}",
    )  # fmt: skip
    with Image.open(picture) as image:
        assert image.convert("RGB").getpixel((3, 3)) == background


@pytest.mark.needs("chromium")
def test_nothing_sticks_out_at_320_pixels(chromium: str, everything: str, tmp_path: Path) -> None:
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<meta charset="utf-8"><iframe width="320" height="900" srcdoc="{html.escape(everything)}" onload="'
        "document.title = 'width ' + this.contentDocument.documentElement.scrollWidth\"></iframe>",
        encoding="utf-8",
    )
    found = re.search(
        r"<title>width (\d+)</title>", browse(chromium, tmp_path / "profile", frame, "--dump-dom")
    )
    assert found
    assert int(found[1]) <= 320
