"""The chat page in a real browser against the real API: a scheduler, a model, and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.serve.conftest import Live

pytestmark = pytest.mark.needs("chromium")
KEY = "a-key-of-sixteen-letters-and-more"
DONE = "document.querySelector('.assistant') && !document.querySelector('[aria-busy=true]')"


def ask(browser: Any, text: str) -> str:
    """Ask, wait for the whole answer, and give what it says."""
    browser.holds(
        "document.querySelector('.pane select')?.options.length > 0 && !!document.querySelector('#prompt')"
    )
    browser.holds("!document.querySelector('.pane select').disabled")
    browser.evaluate("document.querySelector('#prompt').focus()")
    browser.types(text)
    browser.presses("Enter")
    browser.holds(DONE)
    return str(browser.evaluate("document.querySelector('.assistant .body').innerText.trim()"))


def test_an_answer_streams_to_its_end_with_its_numbers(browser: Any, echo: Callable[..., Live]) -> None:
    browser.open(echo(step_s=0.005).url)
    assert ask(browser, "naïve café 🙂 = 82") == "naïve café 🙂 = 82"
    for said in ("tokens/s", "first after", "context"):
        browser.sees(said)
    assert browser.evaluate("document.querySelector('.assistant meter').value") > 0
    assert browser.complaints() == []


def test_a_deadline_is_called_one(browser: Any, echo: Callable[..., Live]) -> None:
    browser.open(echo(step_s=0.05, request_s=0.5).url)
    assert "Cut: the answer took too long." in ask(browser, "a long answer, letter by letter")


def test_with_a_key_the_login_page_comes_first(browser: Any, echo: Callable[..., Live]) -> None:
    browser.open(echo(api_keys=(KEY,)).url)
    browser.sees("This server asks for a key")
    browser.evaluate("document.querySelector('[name=key]').focus()")
    browser.types(KEY)
    browser.presses("Enter")
    assert ask(browser, "hello") == "hello"
