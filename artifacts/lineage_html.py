"""Lineage as a page: a picture of what was made from what, then a card for each artifact."""

from __future__ import annotations

import json
from collections import defaultdict
from html import escape
from typing import Any

from artifacts.lineage import Graph, Node, oldest_first
from artifacts.lineage_text import commit_text, ids_of, plain

_ROW, _DOT, _STEP, _WIDEST = 40, 5, 16, 150  # pixels of the picture


def html(graph: Graph) -> str:
    """One page of a detailed graph: a picture, then all that is known of each artifact.

    It loads nothing and runs nothing, and follows the reader's light or dark mode.
    """
    nodes, ids = oldest_first(graph), ids_of(graph)
    root = _text(graph["root"])
    counted = "1 artifact" if len(nodes) == 1 else f"{len(nodes)} artifacts"
    used_by: dict[str, list[dict[str, str]]] = defaultdict(list)
    for edge in graph["edges"]:
        used_by[edge["parent"]].append({"role": edge["role"], "ref": edge["child"]})
    cards = "\n".join(_card(node, ids, used_by[node["ref"]]) for node in nodes)
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Lineage of {root}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Lineage of {root}</h1>
<p>{counted}, oldest first. A line leads down from an artifact to one that was made from it.</p>
{_picture(graph, nodes, ids)}
{cards}
</main>
</body>
</html>
"""


def _picture(graph: Graph, nodes: list[Node], ids: dict[str, str]) -> str:
    """A row for each artifact; in front of the rows an arc for each edge, in its parent's colour."""
    rows = {node["ref"]: number for number, node in enumerate(nodes)}
    kinds = {kind: number % 8 for number, kind in enumerate(dict.fromkeys(node["kind"] for node in nodes))}
    colours = {node["ref"]: f"k{kinds[node['kind']]}" for node in nodes}
    reach = {ref: (row + 0.5) * _ROW for ref, row in rows.items()}
    bends = [min(_WIDEST, _STEP * abs(rows[edge["child"]] - rows[edge["parent"]])) for edge in graph["edges"]]
    x = round(0.75 * max(bends, default=0)) + 2 * _DOT
    arcs = [
        f'<path class="{colours[edge["parent"]]}" d="M{x},{reach[edge["parent"]]:g} C{x - bend},'
        f'{reach[edge["parent"]]:g} {x - bend},{reach[edge["child"]]:g} {x},{reach[edge["child"]]:g}"><title>'
        f"{_text(edge['child'])} read {_text(edge['parent'])} as {_text(edge['role'])}</title></path>"
        for edge, bend in zip(graph["edges"], bends, strict=True)
    ]
    dots = [f'<circle class="{colours[ref]}" cx="{x}" cy="{reach[ref]:g}" r="{_DOT}"/>' for ref in rows]
    chosen = ' class="root"'
    items = [
        f"<li{chosen if node['ref'] == graph['root'] else ''}>"
        f'<a href="#{ids[node["ref"]]}">{_text(node["ref"])}</a>'
        f"<code>{node['digest'][:12]}</code><span>{_text(_headline(node))}</span>"
        f"<time>{_text(node['created'][:16].replace('T', ' '))}</time></li>"
        for node in nodes
    ]
    width, height = x + 2 * _DOT, len(nodes) * _ROW
    return (
        f'<div class="card picture"><svg width="{width}" height="{height}" aria-hidden="true">'
        f"{''.join(arcs + dots)}</svg>\n<ol>\n{chr(10).join(items)}\n</ol></div>"
    )


def _card(node: Node, ids: dict[str, str], used_by: list[dict[str, str]]) -> str:
    provenance = node["provenance"]
    hardware = provenance["hardware"]
    machine = [hardware["cpu"], f"{hardware['cores']} cores" if hardware["cores"] else "", *hardware["gpus"]]
    facts = {
        "stage": _text(node["stage"]), "made": _text(node["created"]),
        "made from": _links(node["parents"], ids), "used by": _links(used_by, ids),
        "metrics": _pairs(node["metrics"]), "command": _code(provenance["command"]),
        "commit": _code(commit_text(node, 40)), "digest": _code(node["digest"]),
        "manifest": _code(node["manifest"]), "size": f"{node['bytes']:,} bytes in {node['files']} files",
        "machine": _text(", ".join(filter(None, machine))), "versions": _pairs(provenance["versions"]),
    }  # fmt: skip
    shown = "\n".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items() if value)
    folded = {"config": node["config"], "settings": provenance.get("settings")}
    more = "\n".join(
        f"<details><summary>{name}</summary><pre>{_json(value)}</pre></details>"
        for name, value in folded.items() if value
    )  # fmt: skip
    return (
        f'<section class="card" id="{ids[node["ref"]]}">\n'
        f"<h2>{_text(node['ref'])}</h2>\n<dl>\n{shown}\n</dl>\n{more}\n</section>"
    )


def _links(others: list[dict[str, str]], ids: dict[str, str]) -> str:
    """Refs with their roles; those on the page are links."""
    items = []
    for other in others:
        ref = _text(other["ref"])
        link = f'<a href="#{ids[other["ref"]]}">{ref}</a>' if other["ref"] in ids else ref
        items.append(f"{link} <small>as {_text(other['role'])}</small>")
    return ", ".join(items)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{_text(key)}&nbsp;<b>{_text(_number(value))}</b>" for key, value in values.items())


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>" if text else ""


def _json(value: Any) -> str:
    return "\n".join(map(_text, json.dumps(value, indent=2, ensure_ascii=False).split("\n")))


def _text(text: str) -> str:
    """Text for HTML, also within an attribute."""
    return escape(plain(text), quote=True)


def _headline(node: Node) -> str:
    key = node["key_metric"]
    return f"{key} {_number(node['metrics'][key])}" if key in node["metrics"] else ""


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_STYLE = """
:root { color-scheme: light dark; --page: #fbfaf8; --card: #fff; --ink: #1d1f23; --soft: #62666f;
  --rule: #e3e1dc; --link: #2f55a8; --mark: #eef2fb; --light: 48%; }
@media (prefers-color-scheme: dark) { :root { --page: #14161a; --card: #1c1f25; --ink: #e8e6e1;
  --soft: #a0a4ad; --rule: #31353d; --link: #8fb0f5; --mark: #242b3a; --light: 66%; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; } h2 { font-size: 1.1rem; margin: 0 0 .6rem; }
h1, h2, dd, pre { overflow-wrap: anywhere; }
p, dt, small, time, .picture span, .picture code { color: var(--soft); }
p { margin: 0 0 1.2rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
code, pre { font: .87em/1.5 ui-monospace, monospace; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: .6rem; padding: 1rem 1.2rem;
  margin-top: 1rem; }
.card:target { border-color: var(--link); }
small { white-space: nowrap; }
.picture { display: flex; gap: .3rem; overflow-x: auto; font-variant-numeric: tabular-nums; }
.picture svg { flex: none; }
.picture ol { flex: 1; list-style: none; margin: 0; padding: 0; }
.picture li { height: 40px; padding: 0 .6rem; display: flex; gap: 1.5rem; align-items: center;
  white-space: nowrap; border-radius: .4rem; }
.picture li:hover, .picture .root { background: var(--mark); }
.picture a { flex: 1; font-weight: 600; } .picture span { min-width: 9rem; }
path { fill: none; stroke-width: 1.6; opacity: .6; } path:hover { stroke-width: 4; opacity: 1; }
circle { stroke: var(--card); stroke-width: 2; }
.k0 { --hue: hsl(215 60% var(--light)); } .k1 { --hue: hsl(28 75% var(--light)); }
.k2 { --hue: hsl(150 50% calc(var(--light) - 8%)); } .k3 { --hue: hsl(265 50% var(--light)); }
.k4 { --hue: hsl(350 60% var(--light)); } .k5 { --hue: hsl(185 60% calc(var(--light) - 8%)); }
.k6 { --hue: hsl(48 75% calc(var(--light) - 8%)); } .k7 { --hue: hsl(310 45% var(--light)); }
path { stroke: var(--hue); } circle { fill: var(--hue); }
dl { display: grid; grid-template-columns: 6.5rem 1fr; gap: .25rem 1rem; margin: 0; } dd { margin: 0; }
details { margin-top: .6rem; } summary { cursor: pointer; color: var(--soft); }
pre { background: var(--page); border: 1px solid var(--rule); border-radius: .4rem; padding: .7rem .9rem;
  margin: .4rem 0 0; white-space: pre-wrap; }
@media (max-width: 40rem) { .picture :is(time, span, code) { display: none; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
@media print { .card { break-inside: avoid; } }
"""
