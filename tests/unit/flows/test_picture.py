"""Training curves as one small picture."""

from __future__ import annotations

import base64
from typing import Any

from flows.picture import curve_markdown

PNG = b"\x89PNG\r\n\x1a\n"


def record(name: str, value: float, step: int | None) -> dict[str, Any]:
    return {"name": name, "value": value, "step": step}


def test_nothing_to_draw_is_none() -> None:
    other = [record("train/lr", 1.0, 1), record("stage/start", 0.0, None), record("val_bpb", 1.0, None)]
    assert curve_markdown(other, "base of demo") is None
    assert curve_markdown([], "base of demo") is None


def test_curves_become_an_image_inside_the_markdown() -> None:
    records = (record(name, 3.0 - step, step) for step in range(3) for name in ("train/loss", "val_bpb"))
    markdown = curve_markdown(records, "base of demo") or ""
    head, _, data = markdown.removesuffix(")").partition("base64,")
    assert head == "![base of demo](data:image/png;"
    assert base64.b64decode(data, validate=True).startswith(PNG)


def test_another_curve_is_another_picture() -> None:
    first = curve_markdown([record("rl/reward", 0.1, 1), record("rl/reward", 0.2, 2)], "rl")
    second = curve_markdown([record("rl/reward", 0.1, 1), record("rl/reward", 0.9, 2)], "rl")
    assert first != second


def test_a_long_training_still_makes_a_small_picture() -> None:
    markdown = curve_markdown((record("train/loss", 1 / (step + 1), step) for step in range(20_000)), "base")
    assert 1000 < len(markdown or "") < 200_000
