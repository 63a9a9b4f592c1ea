"""Where the report comes from, as a picture: every stage, its digest, and what it read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# stage -> (column, row)
PLACES = {
    "shards": (0, 0), "tokenizer": (0, 1), "tokens": (0, 2),
    "base": (1, 0), "mid": (1, 1), "sft": (1, 2), "rl": (1, 3),
    "eval-base": (2, 0), "eval-mid": (2, 1), "eval-sft": (2, 2), "eval-rl": (2, 3),
}  # fmt: skip
# stage -> what it read. Not drawn: every evaluation also read shards and tokens, and the report everything.
READS = {
    "tokenizer": ("shards",), "tokens": ("tokenizer",), "base": ("tokens", "tokenizer"),
    "mid": ("base", "shards"), "sft": ("mid", "shards"), "rl": ("sft", "shards"),
    "eval-base": ("base",), "eval-mid": ("mid",), "eval-sft": ("sft",), "eval-rl": ("rl",),
}  # fmt: skip
BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 120, 44, 46, 22, 4


@dataclass(frozen=True)
class Box:
    """One artifact; ``x`` and ``y`` are its upper left corner."""

    stage: str
    digest: str
    x: int
    y: int

    @property
    def left(self) -> tuple[int, int]:
        return self.x, self.y + BOX_HEIGHT // 2

    @property
    def right(self) -> tuple[int, int]:
        return self.x + BOX_WIDTH, self.y + BOX_HEIGHT // 2


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
        stage: Box(
            stage, digests[stage], MARGIN + column * (BOX_WIDTH + GAP_X), MARGIN + row * (BOX_HEIGHT + GAP_Y)
        )
        for stage, (column, row) in PLACES.items()
        if stage in digests
    }
    paths = (
        _path(boxes[parent], boxes[child])
        for child, parents in READS.items()
        for parent in parents
        if {child, parent} <= boxes.keys()
    )
    width, height = 3 * BOX_WIDTH + 2 * GAP_X + 2 * MARGIN, 4 * BOX_HEIGHT + 3 * GAP_Y + 2 * MARGIN
    return Picture(width, height, tuple(boxes.values()), tuple(paths))


def _path(parent: Box, child: Box) -> str:
    """Down within a column; from the right edge to the left edge between columns."""
    if parent.x == child.x:
        x = parent.x + BOX_WIDTH // 2
        return f"M{x},{parent.y + BOX_HEIGHT} L{x},{child.y - 3}"
    (x0, y0), (x1, y1) = parent.right, child.left
    bend = (x1 - x0) // 2
    return f"M{x0},{y0} C{x0 + bend},{y0} {x1 - bend},{y1} {x1 - 3},{y1}"
