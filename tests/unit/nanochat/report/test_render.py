"""The three forms of a report: JSON for programs, Markdown, and one HTML file that needs nothing else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks nesting, and keeps what a browser would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.fetched += [
            value for name, value in attrs if name in ("href", "src", "action") and value and value[0] != "#"
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else at {self.getpos()}"


@pytest.fixture(scope="module")
def html(report: Path) -> str:
    return (report / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_self_contained(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert len(page.ids) == len(set(page.ids))
    assert len(html.encode()) < 1_000_000


def test_what_a_model_or_a_person_wrote_is_text(html: str) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 82" in html
    assert "<title>Test &amp; &lt;report&gt;</title>" in html


def test_the_page_says_what_matters(html: str) -> None:
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    for phrase in (
        "7 of 7 targets met", "80.0% (76.0 – 84.0%), n = 500", "newly solves 70 and loses 0",
        "0.9050 at step 50, 0.9000 at step 75, 0.9020 at step 100", "900 documents in 1 shard",
        "git checkout 0123456789abcdef", "Some CPU, 2 cores", "pydocs, 2 packages",
    ):  # fmt: skip
        assert phrase in text, phrase


def test_markdown_is_the_golden_one(report: Path, repository: Path) -> None:
    golden = repository / "tests" / "golden" / "report.md"
    assert (report / "report.md").read_text(encoding="utf-8") == golden.read_text(encoding="utf-8")


def test_json_separates_results_from_how_it_ran(report: Path) -> None:
    document = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert set(document) == {"schema", "results", "provenance"}
    assert document["results"]["targets"][0]["met"] is True
    assert document["provenance"]["commit"].startswith("0123")
    assert "seconds" not in json.dumps(document["results"])
