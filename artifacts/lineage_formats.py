"""Lineage as text: a tree, Mermaid, Graphviz DOT; and, from modules of their own, HTML and OpenLineage.

Each function takes a graph of ``artifacts.lineage``; ``html`` and ``openlineage`` need it ``detailed``.
Refs, roles and configs may hold any text: every format escapes what it prints.
"""

from __future__ import annotations

import re
from collections import defaultdict

from artifacts.lineage import Graph, detailed
from artifacts.lineage_html import html
from artifacts.lineage_text import commit_text, ids_of, plain
from artifacts.openlineage import openlineage

__all__ = ["detailed", "dot", "html", "mermaid", "openlineage", "tree"]

_SPECIAL = re.compile(r"[^A-Za-z0-9 ./@+=_-]")


def tree(graph: Graph) -> str:
    """A table for the terminal whose first column is a tree from the root; each artifact is opened once."""
    nodes = {node["ref"]: node for node in graph["nodes"]}
    upwards = any(edge["child"] == graph["root"] for edge in graph["edges"])
    here, there = ("child", "parent") if upwards else ("parent", "child")
    next_to: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for edge in graph["edges"]:
        next_to[edge[here]].setdefault(edge[there], []).append(edge["role"])
    rows = [("artifact", "read as", "digest", "commit")]
    seen: set[str] = set()
    pending = [(graph["root"], "", "", "")]  # (ref, role, what leads to it, what leads to those below)
    while pending:
        ref, role, branch, lead = pending.pop()
        name = branch + plain(ref)
        if ref in seen:
            rows.append((f"{name} (seen above)", role, "", ""))
            continue
        seen.add(ref)
        rows.append((name, role, nodes[ref]["digest"][:12], commit_text(nodes[ref])))
        below = [(other, plain(", ".join(roles))) for other, roles in next_to[ref].items()]
        marks = [("├─ ", "│  ")] * (len(below) - 1) + [("└─ ", "   ")]
        steps = [
            (*item, lead + mark, lead + go_on) for item, (mark, go_on) in zip(below, marks, strict=False)
        ]
        pending.extend(reversed(steps))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def mermaid(graph: Graph) -> str:
    """A Mermaid flowchart, parents to children; the root's border is thick."""
    ids = ids_of(graph)
    lines = ["flowchart LR"]
    for node in graph["nodes"]:
        lines.append(f'  {ids[node["ref"]]}["{_mermaid_label(node["ref"])}<br/>{node["digest"][:12]}"]')
    for edge in graph["edges"]:
        role = _mermaid_label(edge["role"])
        lines.append(f'  {ids[edge["parent"]]} -->|"{role}"| {ids[edge["child"]]}')
    lines.append(f"  style {ids[graph['root']]} stroke-width:3px")
    return "\n".join(lines) + "\n"


def _mermaid_label(text: str) -> str:
    """Mermaid looks for icons (fa:), formulas ($$) and \\n after reading the codes: a joiner hides them."""
    return _coded(re.sub(r"([:$\\])", "\\1\u2060", plain(text)), "#")


def dot(graph: Graph) -> str:
    """A Graphviz digraph, parents to children; the root's border is thick."""
    ids = ids_of(graph)
    lines = [
        "digraph lineage {",
        "  rankdir=LR;",
        "  node [shape=box, style=rounded];",
        "  edge [fontsize=10];",
    ]
    for node in graph["nodes"]:
        width = ", penwidth=3" if node["ref"] == graph["root"] else ""
        label = rf"{_dot_label(node['ref'])}\n{node['digest'][:12]}"
        lines.append(f'  {ids[node["ref"]]} [label="{label}"{width}];')
    for edge in graph["edges"]:
        role = _dot_label(edge["role"])
        lines.append(f'  {ids[edge["parent"]]} -> {ids[edge["child"]]} [label="{role}"];')
    return "\n".join([*lines, "}"]) + "\n"


def _dot_label(text: str) -> str:
    """Graphviz reads codes first and backslashes after, so these are doubled."""
    return _coded(plain(text).replace("\\", "\\\\"), "&#")


def _coded(text: str, mark: str) -> str:
    """A label in quotes: everything but harmless ASCII as a numeric code, ``#34;`` or ``&#34;``."""
    return _SPECIAL.sub(lambda match: f"{mark}{ord(match[0])};", text)
