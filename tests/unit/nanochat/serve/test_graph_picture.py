"""Pictures of lineage: children below parents, nothing overlaps, and only lines that say something."""

from __future__ import annotations

from itertools import combinations

from nanochat.serve.catalog import Edge, Graph
from nanochat.serve.graph_picture import HEIGHT, MOST_NODES, WIDTH, Box, picture


def graph(edges: str, *lonely: str) -> Graph:
    """``graph("a>b b>c")``: c was made from b, b from a."""
    pairs = [pair.split(">") for pair in edges.split()]
    nodes = dict.fromkeys([*(name for pair in pairs for name in pair), *lonely], "about")
    return Graph(next(iter(nodes)), nodes, [Edge(parent, child, "role") for parent, child in pairs])


def placed(found: Graph) -> dict[str, Box]:
    return {box.ref: box for box in picture(found).boxes}


def test_children_are_below_all_their_parents() -> None:
    found = graph("a>b b>c a>d d>e c>e e>f")
    boxes = placed(found)
    for edge in found.edges:
        assert boxes[edge.child].y >= boxes[edge.parent].y + HEIGHT


def test_boxes_do_not_overlap_and_lie_inside() -> None:
    found = graph(
        " ".join(f"a{i}>b{j}" for i in range(5) for j in range(7) if (i + j) % 3) + " b1>c b2>c a0>c"
    )
    drawn = picture(found)
    for one, other in combinations(drawn.boxes, 2):
        assert abs(one.x - other.x) >= WIDTH or abs(one.y - other.y) >= HEIGHT, (one, other)
    for box in drawn.boxes:
        assert 0 <= box.x <= drawn.width - WIDTH
        assert 0 <= box.y <= drawn.height - HEIGHT


def test_an_edge_that_follows_from_others_is_not_drawn() -> None:
    assert len(picture(graph("a>b b>c a>c")).paths) == 2
    assert len(picture(graph("a>b a>b")).paths) == 1, "read in two roles"
    assert len(picture(graph("a>b b>d a>c c>d")).paths) == 4


def test_a_line_that_passes_a_layer_goes_beside_its_boxes() -> None:
    drawn = picture(graph("a>b b>d a>c d>e c>e"))  # c>e passes the layer of d
    (d,) = (box for box in drawn.boxes if box.ref == "d")
    straight = [path for path in drawn.paths if " V" in path]
    assert len(straight) == 1
    x = float(straight[0].split(" V")[0].split(" ")[-1].split(",")[0])
    assert not d.x <= x <= d.x + WIDTH


def test_one_node_and_too_many() -> None:
    assert len(picture(graph("", "a")).boxes) == 1
    many = picture(graph(" ".join(f"root>n{number}" for number in range(MOST_NODES + 5))))
    assert len(many.boxes) == MOST_NODES
    assert many.left_out == 6
