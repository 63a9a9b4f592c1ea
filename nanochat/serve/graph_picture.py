"""A graph of artifacts as boxes in layers, parents above children, and lines between them.

An edge that follows from others is not drawn: what read all that came before would hide everything else.
Layers by longest path, order in a layer by the mean place of the neighbours (Sugiyama et al., 1981).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nanochat.serve.catalog import Graph

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 190, 46, 20, 34, 4
LANE = 10  # what a line takes that passes a layer
MOST_NODES = 120
SWEEPS = 8
Edges = list[tuple[str, str]]


@dataclass(frozen=True)
class Box:
    """One artifact; ``x`` and ``y`` are its upper left corner."""

    ref: str
    about: str
    x: float
    y: float


@dataclass(frozen=True)
class Picture:
    """Boxes, and the SVG paths between them. ``left_out``: artifacts that are too many to draw."""

    width: float
    height: float
    boxes: Sequence[Box]
    paths: Sequence[str]
    left_out: int


@dataclass
class _Place:
    """A box or a lane in a layer; ``x`` is its middle."""

    layer: int
    half: float
    x: float = 0.0


def picture(graph: Graph) -> Picture:
    """The graph, placed; the nodes nearest to the root if there are too many."""
    shown = dict(list(graph.nodes.items())[:MOST_NODES])
    edges = _needed(
        [(edge.parent, edge.child) for edge in graph.edges if {edge.parent, edge.child} <= shown.keys()]
    )
    layers = _layers(shown, edges)
    places = {ref: _Place(layer, WIDTH / 2) for ref, layer in layers.items()}
    chains = [_chain(parent, child, places) for parent, child in edges]
    rows = _ordered(places, chains)
    _spread(rows, places, chains)
    left = min(place.x - place.half for place in places.values()) - MARGIN
    right = max(place.x + place.half for place in places.values()) + MARGIN
    for place in places.values():
        place.x -= left
    boxes = [Box(ref, about, places[ref].x - WIDTH / 2, _top(places[ref])) for ref, about in shown.items()]
    height = 2 * MARGIN + len(rows) * HEIGHT + (len(rows) - 1) * GAP_Y
    paths = [_path([places[name] for name in chain]) for chain in chains]
    return Picture(right - left, height, boxes, paths, len(graph.nodes) - len(shown))


def _needed(edges: Edges) -> Edges:
    """The edges that follow from no others, each once."""
    children: dict[str, set[str]] = defaultdict(set)
    for parent, child in edges:
        children[parent].add(child)
    below: dict[str, set[str]] = {}

    def reach(ref: str) -> set[str]:
        if ref not in below:
            below[ref] = set()
            for child in children.get(ref, ()):
                below[ref] |= {child} | reach(child)
        return below[ref]

    return [
        (parent, child)
        for parent, child in dict.fromkeys(edges)
        if not any(child in reach(other) for other in children[parent] - {child})
    ]


def _layers(nodes: Iterable[str], edges: Edges) -> dict[str, int]:
    """How many steps each node is below those that have no parent; parents sit right above where they can."""
    layers = dict.fromkeys(nodes, 0)
    for _ in layers:
        deeper = {child: layers[parent] + 1 for parent, child in edges if layers[child] <= layers[parent]}
        if not deeper:
            break
        for child in deeper:
            layers[child] = max(layers[parent] + 1 for parent, its in edges if its == child)
    return layers


def _chain(parent: str, child: str, places: dict[str, _Place]) -> list[str]:
    """The parent, a lane in each layer between, the child."""
    lanes = []
    for layer in range(places[parent].layer + 1, places[child].layer):
        name = f"{parent}\n{child}\n{layer}"
        places[name] = _Place(layer, LANE / 2)
        lanes.append(name)
    return [parent, *lanes, child]


def _neighbours(chains: list[list[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for chain in chains:
        for one, other in pairwise(chain):
            found[one].append(other)
            found[other].append(one)
    return found


def _ordered(places: Mapping[str, _Place], chains: list[list[str]]) -> list[list[str]]:
    """The names of each layer from left to right, with few lines that cross."""
    rows: list[list[str]] = [[] for _ in range(1 + max(place.layer for place in places.values()))]
    for name, place in places.items():
        rows[place.layer].append(name)
    near = _neighbours(chains)
    for sweep in range(SWEEPS):
        order = range(len(rows)) if sweep % 2 == 0 else reversed(range(len(rows)))
        for layer in order:
            at = {name: number / len(row) for row in rows for number, name in enumerate(row)}
            other = layer - 1 if sweep % 2 == 0 else layer + 1

            def mean(name: str, at: dict[str, float] = at, other: int = other) -> float:
                found = [at[next_to] for next_to in near[name] if places[next_to].layer == other]
                return sum(found) / len(found) if found else at[name]

            rows[layer].sort(key=mean)
    return rows


def _spread(rows: list[list[str]], places: Mapping[str, _Place], chains: list[list[str]]) -> None:
    """Give each its x: near the mean of its neighbours, and clear of the one beside it."""
    near = _neighbours(chains)
    for sweep in range(2 * SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [
                sum(places[other].x for other in near[name]) / len(near[name])
                if near[name]
                else places[name].x
                for name in row
            ]
            _set(row, wanted, places)


def _set(row: list[str], wanted: list[float], places: Mapping[str, _Place]) -> None:
    """As near to what is wanted as the gaps allow: pushed to the right, then shifted back by the mean."""
    edge = float("-inf")
    for name, x in zip(row, wanted, strict=True):
        place = places[name]
        place.x = max(x, edge + place.half)
        edge = place.x + place.half + GAP_X
    shift = sum(places[name].x - x for name, x in zip(row, wanted, strict=True)) / len(row)
    for name in row:
        places[name].x -= shift


def _top(place: _Place) -> float:
    return MARGIN + place.layer * (HEIGHT + GAP_Y)


def _path(places: list[_Place]) -> str:
    """A curve from the bottom of the first to the top of the last, straight through the layers between."""
    parts = [f"M{places[0].x:.1f},{_top(places[0]) + HEIGHT:g}"]
    for above, below in pairwise(places):
        top, bottom = _top(above) + HEIGHT, _top(below)
        middle = (top + bottom) / 2
        parts.append(f"C{above.x:.1f},{middle:g} {below.x:.1f},{middle:g} {below.x:.1f},{bottom:g}")
        if below is not places[-1]:
            parts.append(f"V{bottom + HEIGHT:g}")
    return " ".join(parts)
