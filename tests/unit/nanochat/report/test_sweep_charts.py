"""Pictures of a sweep: a panel for what was found and none for what was not, equal for equal input."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import pytest
from PIL import Image

from nanochat.report.charts import COLOURS
from nanochat.report.sweep import Point, Sweep
from nanochat.report.sweep_charts import RAMP, colours, panels, png, svgs

VALLEY, SLOPE = (1.2, 1.0, 1.1), (1.2, 1.1, 1.05)  # losses of three sizes


def laws(*losses: tuple[float, ...]) -> Sweep:
    """A budget for each, tenfold the last."""
    points = [
        Point(f"{number}-d{depth}", depth, 10.0 ** (18 + number), size, 3 * size, 100, 10**9, 1e18, 0.5, loss)
        for number, several in enumerate(losses)
        for depth, size, loss in zip((2, 4, 6), (10**7, 3 * 10**7, 10**8), several, strict=True)
    ]
    return Sweep.of("scaling-laws", points)


def series(**evaluation: float) -> Sweep:
    points = [
        Point(f"d{n}", n, None, 10**n, 10**n, 100, 10**n, 10.0 ** (2 * n), 0.5, 2 - n / 10, evaluation)
        for n in (7, 8, 9)
    ]
    return Sweep.of("miniseries", points)


SWEEPS = {
    "laws": laws(VALLEY, VALLEY), "one valley": laws(VALLEY, SLOPE), "no valley": laws(SLOPE),
    "series": series(), "evaluated": series(docs=0.5, spelling=0.25),
    "one": Sweep.of("miniseries", series().points[:1]),
}  # fmt: skip
each = pytest.mark.parametrize("name", ["laws", "evaluated"])


def test_there_is_a_panel_for_what_was_found() -> None:
    assert {name: len(panels(sweep)) for name, sweep in SWEEPS.items()} == {
        "laws": 4, "one valley": 2, "no valley": 2, "series": 1, "evaluated": 2, "one": 1,
    }  # fmt: skip


@each
def test_every_panel_takes_the_colours_of_the_page(name: str) -> None:
    drawn = svgs(SWEEPS[name])
    assert list(drawn) == list(panels(SWEEPS[name]))
    for svg in drawn.values():
        ElementTree.fromstring(svg.replace(' href="', ' xlink="'))
        assert not [colour for colour in COLOURS if colour in svg]
        assert "currentColor" in svg
    ids = [found for svg in drawn.values() for found in re.findall(r'<(?:clipPath|path) id="([^"]+)"', svg)]
    assert len(ids) == len(set(ids)), "two pictures on one page must not share ids"


@each
def test_the_picture_is_reproducible_and_of_a_handy_size(name: str) -> None:
    first, second = png(SWEEPS[name]), png(SWEEPS[name])
    assert first == second
    assert len(first) < 200_000, "it stands inside a Prefect artifact"
    with Image.open(io.BytesIO(first)) as image:
        assert 1000 < image.width < 1300
        assert 400 < image.height < 1100
        assert len(image.convert("RGB").getcolors(maxcolors=2**24)) > 100


def test_another_number_is_another_picture() -> None:
    assert png(laws(VALLEY, VALLEY)) != png(laws(VALLEY, (1.2, 1.01, 1.1)))


def text_of(svg: str) -> str:
    return " ".join(re.findall(r">([^<>]+)</text>", svg))


def test_every_curve_is_named_and_one_without_a_lowest_point_is_said() -> None:
    first = next(iter(svgs(laws(VALLEY, SLOPE)).values()))
    assert {"1e18", "1e19"} <= set(text_of(first).split())
    assert "dashed: not bracketed" in text_of(first)
    assert "not bracketed" not in text_of(next(iter(svgs(laws(VALLEY, VALLEY)).values())))


def test_the_law_stands_above_its_line() -> None:
    best = svgs(laws(VALLEY, VALLEY))["Best size over compute"]
    assert "N ∝ FLOPs^" in text_of(best)


def test_budgets_go_from_cold_to_warm() -> None:
    found = colours(laws(VALLEY, VALLEY, VALLEY).valleys)
    assert list(found) == [1e18, 1e19, 1e20]
    assert (found[1e18], found[1e20]) == (RAMP[0], RAMP[-1])
    assert list(colours(laws(VALLEY).valleys).values()) == [RAMP[0]]
