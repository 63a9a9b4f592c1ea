"""Where the report comes from, as a picture: every stage, its digest, and what it read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# stage -> (column, row)
PLACES = {
    "shards": (0, 0), "tokenizer": (1, 0), "tokens": (2, 0),
    "base": (1, 1), "mid": (1, 2), "sft": (1, 3), "rl": (1, 4),
    "eval-base": (2, 1), "eval-mid": (2, 2), "eval-sft": (2, 3), "eval-rl": (2, 4),
}  # fmt: skip
# stage -> what it read. Not drawn: shards to tokens; shards and tokens to evaluations; all to the report.
READS = {
    "tokenizer": ("shards",), "tokens": ("tokenizer",), "base": ("tokens", "tokenizer"),
    "mid": ("base", "shards"), "sft": ("mid", "shards"), "rl": ("sft", "shards"),
    "eval-base": ("base",), "eval-mid": ("mid",), "eval-sft": ("sft",), "eval-rl": ("rl",),
}  # fmt: skip
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN, TIP = 124, 46, 40, 26, 2, 3


@dataclass(frozen=True)
class Box:
    """One artifact; ``x`` and ``y`` are its upper left corner."""

    stage: str
    digest: str
    x: int
    y: int
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class Picture:
    """What the template draws: boxes, and the SVG paths of the arrows between them."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    paths: tuple[str, ...]


def picture(digests: Mapping[str, str]) -> Picture:
    """The stages of ``digests``, placed; arrows only between stages that are there."""
    boxes = {
        stage: Box(stage, digests[stage], MARGIN + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y))
        for stage, (column, row) in PLACES.items()
        if stage in digests
    }
    paths = (
        arrow(boxes[parent], boxes[child])
        for child, parents in READS.items()
        for parent in parents
        if {child, parent} <= boxes.keys()
    )
    width, height = 3 * WIDTH + 2 * GAP_X + 2 * MARGIN, 5 * HEIGHT + 4 * GAP_Y + 2 * MARGIN
    return Picture(width, height, tuple(boxes.values()), tuple(paths))


def arrow(parent: Box, child: Box) -> str:
    """Straight along a row or a column; down then right from the left; down, left, down from the right."""
    middle, bottom = parent.x + WIDTH // 2, parent.y + HEIGHT
    if parent.y == child.y:
        return f"M{parent.x + WIDTH},{parent.y + HEIGHT // 2} H{child.x - TIP}"
    if parent.x == child.x:
        return f"M{middle},{bottom} V{child.y - TIP}"
    if parent.x < child.x:
        return f"M{middle},{bottom} V{child.y + HEIGHT // 2} H{child.x - TIP}"
    return f"M{middle},{bottom} v{GAP_Y // 2} H{child.x + 3 * WIDTH // 4} V{child.y - TIP}"
