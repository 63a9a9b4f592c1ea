"""Every other page in a real browser: nothing complains, nothing sticks out, and what moves does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.integration.serve.scripted_api import site
from tests.unit.nanochat.serve.made_up_catalog import MadeUpCatalog

pytestmark = pytest.mark.needs("chromium")
LIGHT, DARK = (0xFB, 0xFA, 0xF8), (0x14, 0x16, 0x1A)  # --page
PAGES = {
    "models": "/models", "artifacts": "/artifacts", "artifact": "/artifacts/base/demo@v2",
    "lineage": "/lineage/report/demo@v1", "runs": "/runs", "run": "/runs/20261122T030405.000000-demo",
    "evals": "/evals", "tokenizer": "/tokenizer?special=true&vocab=true", "calculator": "/calculator",
    "login": "/login",
}  # fmt: skip
LOADED = "document.readyState === 'complete'"  # scripts included
LARGE, SMALL = (1200, 900), (320, 640)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[str, MadeUpCatalog]]:
    """The address of the web app, and what it shows."""
    with site(tmp_path / "made") as (address, _, catalog):
        yield address, catalog


def test_each_page_is_well_in_light_dark_and_small(
    browser: Any, made: tuple[str, MadeUpCatalog], test_output: Path
) -> None:
    address, _ = made
    for name, path in PAGES.items():
        for look, (width, height), dark in (
            ("light", LARGE, False),
            ("dark", LARGE, True),
            ("320", SMALL, False),
        ):
            browser.looks(width=width, height=height, dark=dark)
            browser.open(address + path)
            browser.holds(f"location.href === {(address + path)!r} && document.readyState === 'complete'")
            assert browser.evaluate("document.documentElement.scrollWidth") <= width, (name, look)
            full = min(3000, browser.evaluate("document.documentElement.scrollHeight"))
            browser.looks(width=width, height=full, dark=dark)
            picture = test_output / f"page-{name}-{look}.png"
            browser.screenshot(picture)
            with Image.open(picture) as image:
                assert image.convert("RGB").getpixel((2, full - 2)) == (DARK if dark else LIGHT), (name, look)
        assert browser.complaints() == [], name


def test_an_alias_is_set_on_the_page(browser: Any, made: tuple[str, MadeUpCatalog]) -> None:
    address, catalog = made
    browser.open(f"{address}/models")
    browser.click("[id='sft/demo@v1'] summary")
    browser.click("[id='sft/demo@v1'] input[name=alias]")
    browser.types("best")
    browser.presses("Enter")
    browser.holds("location.hash === '#sft/demo@v1'")
    assert catalog.aliases["sft/demo@v1"] == ["latest", "best"]
    browser.holds("document.querySelector('[id=\"sft/demo@v1\"]')?.innerText.includes('best')")
    assert browser.complaints() == []


def test_a_form_of_another_site_sets_nothing(
    browser: Any, made: tuple[str, MadeUpCatalog], tmp_path: Path
) -> None:
    address, catalog = made
    page = tmp_path / "other.html"
    page.write_text(
        f'<form method="post" action="{address}/models/alias"><input name="ref" value="sft/demo@v1">'
        '<input name="alias" value="prod"></form><script>document.forms[0].submit()</script>',
        encoding="utf-8",
    )
    browser.open(page.as_uri())
    browser.sees("sent by another site")
    assert "sft/demo@v1" not in catalog.aliases


def test_an_artifact_in_the_picture_is_a_link(browser: Any, made: tuple[str, MadeUpCatalog]) -> None:
    browser.open(f"{made[0]}/lineage/report/demo@v1")
    browser.holds("document.querySelectorAll('svg a').length === 12")
    browser.evaluate("document.querySelector('svg a[href=\"/artifacts/base/demo@v1\"]').focus()")
    browser.presses("Enter")
    browser.holds("location.pathname === '/artifacts/base/demo@v1'")


def test_a_running_stage_keeps_itself_up_to_date(browser: Any, made: tuple[str, MadeUpCatalog]) -> None:
    address, catalog = made
    browser.open(f"{address}/runs")
    browser.sees("step 120 loss 2.431")
    catalog.is_working = False
    browser.sees("Nothing is running")
    catalog.is_working = True
    browser.holds("document.querySelectorAll('svg.chart').length === 1")
    assert browser.complaints() == []


def test_tokens_and_costs_follow_what_is_typed(browser: Any, made: tuple[str, MadeUpCatalog]) -> None:
    address, _ = made
    browser.open(f"{address}/tokenizer")
    browser.holds(LOADED)
    browser.click("textarea")
    browser.evaluate("document.activeElement.select()")
    browser.types("<i>ab</i> é")
    browser.sees("12 bytes")
    assert browser.evaluate("document.querySelectorAll('#result i').length") == 0
    assert "text=" in browser.address
    browser.open(f"{address}/calculator")
    browser.holds(f"location.pathname === '/calculator' && {LOADED}")
    browser.click("input[name=depth]")
    browser.types("20")
    browser.sees("Depth 20, width 1280")
    browser.types("00")
    browser.holds("document.querySelector('#result [role=alert]')?.innerText.includes('depth')")
    assert browser.complaints() == []


def test_pages_do_without_scripts(browser: Any, made: tuple[str, MadeUpCatalog]) -> None:
    browser._send("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(f"{made[0]}/calculator")
    browser.sees("Compute")
    browser.holds(LOADED)
    browser.click("input[name=depth]")
    browser.types("20")
    browser.holds("document.querySelector('input[name=depth]').value === '20'")
    browser.presses("Enter")
    browser.sees("Depth 20, width 1280")
    browser.open(made[0])
    browser.sees("The chat needs JavaScript")
