"""The page in a real browser: light, dark, and on a small screen. The pictures stay in test-output/."""

from __future__ import annotations

import html
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.needs("chromium")
LIGHT, DARK = (0xFB, 0xFA, 0xF8), (0x14, 0x16, 0x1A)  # --page in page.css


def browse(chromium: str, profile: Path, page: Path, *options: str) -> str:
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        "--virtual-time-budget=3000", f"--user-data-dir={profile}", *options, page.as_uri(),
    ]  # fmt: skip
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return outcome.stdout


@pytest.mark.parametrize(("scheme", "setting", "background"), [("light", 1, LIGHT), ("dark", 0, DARK)])
def test_the_page_follows_the_colour_scheme(
    scheme: str, setting: int, background: tuple[int, int, int],
    chromium: str, report: Path, test_output: Path, tmp_path: Path,
) -> None:  # fmt: skip
    picture = test_output / f"report-{scheme}.png"
    picture.unlink(missing_ok=True)
    browse(
        chromium, tmp_path, report / "report.html", "--window-size=1100,4200", f"--screenshot={picture}",
        f"--blink-settings=preferredColorScheme={setting}",
    )  # fmt: skip
    with Image.open(picture) as image:
        assert image.convert("RGB").getpixel((3, 3)) == background
        colours = image.convert("RGB").getcolors(maxcolors=2**24)
    assert colours
    assert len(colours) > 500, "a page with curves has more colours than an empty one"


def test_nothing_sticks_out_at_320_pixels(chromium: str, report: Path, tmp_path: Path) -> None:
    source = html.escape((report / "report.html").read_text(encoding="utf-8"), quote=True)
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<meta charset="utf-8"><iframe width="320" height="900" srcdoc="{source}" onload="'
        "document.title = 'width ' + this.contentDocument.documentElement.scrollWidth\"></iframe>",
        encoding="utf-8",
    )
    found = re.search(
        r"<title>width (\d+)</title>", browse(chromium, tmp_path / "profile", frame, "--dump-dom")
    )
    assert found
    assert int(found[1]) <= 320
