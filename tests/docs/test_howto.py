"""Of every command on a how-to page: it is run by a test, or the paragraph above says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

MARKER = "Not run by the tests: "
PAGES = sorted((Path(__file__).parents[2] / "docs/howto").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_command_that_no_test_runs_says_why(page: Path) -> None:
    """Those in a ``console`` block are typed by tests/integration/test_prefect_runs.py."""
    silent = []
    above, in_paragraph, inside = "", False, False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            if line == "```" and not inside and not re.match(rf"{MARKER}\S", above):
                silent.append(above)
            above, inside = "", not inside
        elif not inside:
            above = above if in_paragraph or not line else line
            in_paragraph = bool(line)
    assert silent == [], f"write {MARKER!r} and the reason in the paragraph above the block"
    assert not inside, "a block that does not end"
