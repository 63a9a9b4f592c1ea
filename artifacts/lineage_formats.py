"""Lineage as text: a tree, Mermaid, Graphviz DOT, one HTML page, OpenLineage events.

Each function takes a graph of ``artifacts.lineage``; ``html`` and ``openlineage`` need it ``detailed``.
Refs, roles and configs may hold any text: every format escapes what it prints.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import defaultdict
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import DataError
from artifacts.lineage import Graph
from artifacts.names import Pointer

if TYPE_CHECKING:
    from artifacts.store import Store

Node = dict[str, Any]

_SPECIAL = re.compile(r"[^A-Za-z0-9 ./@+=_-]")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PRODUCER = "pkg:generic/nanochat-pipeline"
_SPEC = "https://openlineage.io/spec"
_ROW, _DOT, _STEP, _WIDEST = 40, 5, 16, 150  # pixels of the HTML page's picture


def detailed(store: Store, graph: Graph) -> Graph:
    """The graph with more of each manifest in its node.

    That is ``manifest`` (its sha256), ``created``, ``bytes``, ``files`` (how many), ``metrics``,
    ``key_metric``, ``parents`` (role, ref, digest of all, also of those outside the graph).
    """
    pointers: dict[str, Pointer] = {}
    nodes = []
    for node in graph["nodes"]:  # a child comes before its parents, so they are found without their names
        pointer = pointers.get(node["ref"]) or store.names.find(node["ref"]).pointer
        manifest = store.manifest(pointer)
        for parent in manifest.parents:
            pointers.setdefault(parent.ref, Pointer.to_parent(parent))
        parents = [{"role": item.role, "ref": item.ref, "digest": item.digest} for item in manifest.parents]
        more = {
            "manifest": pointer.manifest, "created": manifest.created, "bytes": manifest.total_bytes,
            "files": len(manifest.all_files()), "metrics": manifest.metrics,
            "key_metric": manifest.key_metric, "parents": parents,
        }  # fmt: skip
        nodes.append(node | more)
    return graph | {"nodes": nodes}


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
        name = branch + _plain(ref)
        if ref in seen:
            rows.append((f"{name} (seen above)", role, "", ""))
            continue
        seen.add(ref)
        rows.append((name, role, nodes[ref]["digest"][:12], _commit(nodes[ref])))
        below = [(other, _plain(", ".join(roles))) for other, roles in next_to[ref].items()]
        marks = [("├─ ", "│  ")] * (len(below) - 1) + [("└─ ", "   ")]
        steps = [
            (*item, lead + mark, lead + go_on) for item, (mark, go_on) in zip(below, marks, strict=False)
        ]
        pending.extend(reversed(steps))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def mermaid(graph: Graph) -> str:
    """A Mermaid flowchart, parents to children; the root's border is thick."""
    ids = _ids(graph)
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
    return _coded(re.sub(r"([:$\\])", "\\1\u2060", _plain(text)), "#")


def dot(graph: Graph) -> str:
    """A Graphviz digraph, parents to children; the root's border is thick."""
    ids = _ids(graph)
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
    return _coded(_plain(text).replace("\\", "\\\\"), "&#")


def openlineage(graph: Graph, store_url: str) -> str:
    """One COMPLETE RunEvent of OpenLineage 2-0-2 a line for each artifact of a detailed graph, oldest first.

    A job makes one version, so that versions do not replace each other where events are collected.
    Raises DataError if the time at which an artifact was made is no time.
    """
    namespace = store_url if "://" in store_url else Path(store_url).as_uri()
    events = (_event(node, namespace) for node in _oldest_first(graph))
    return "".join(json.dumps(event, ensure_ascii=True, allow_nan=False) + "\n" for event in events)


def _event(node: Node, namespace: str) -> dict[str, Any]:
    inputs = {item["ref"]: item["digest"] for item in node["parents"]}  # one may be read in two roles
    parameters = [{"key": key, "value": value} for key, value in node["config"].items()]
    statistics = _facet(
        "1-0-2", "OutputStatisticsOutputDatasetFacet", size=node["bytes"], fileCount=node["files"]
    )
    made = _dataset(namespace, node["ref"], node["digest"])
    return {
        "eventType": "COMPLETE",
        "eventTime": _time(node),
        "run": {
            "runId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{_PRODUCER}#{node['manifest']} {node['ref']}")),
            "facets": {"jobRunParameters": _facet("1-0-0", "JobRunParametersFacet", parameters=parameters)},
        },
        "job": {
            "namespace": namespace,
            "name": f"{node['stage']}:{node['ref']}",
            "facets": _job_facets(node),
        },
        "inputs": [_dataset(namespace, ref, digest) for ref, digest in inputs.items()],
        "outputs": [made | {"outputFacets": {"outputStatistics": statistics}}],
        "producer": _PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
    }


def _job_facets(node: Node) -> dict[str, Any]:
    """What kind of job it was, and its commit.

    The repository's address is not recorded, so the URL is the commit's in the Software Heritage archive.
    """
    kind = _facet("2-0-3", "JobTypeJobFacet", processingType="BATCH", integration="NANOCHAT", jobType="STAGE")
    commit = node["provenance"]["commit"] or ""
    if not _COMMIT.fullmatch(commit):
        return {"jobType": kind}
    url = f"https://archive.softwareheritage.org/swh:1:rev:{commit}"
    version = f"{commit}-dirty" if node["provenance"]["dirty"] else commit
    code = _facet("1-0-1", "SourceCodeLocationJobFacet", type="git", url=url, version=version)
    return {"jobType": kind, "sourceCodeLocation": code}


def _dataset(namespace: str, ref: str, digest: str) -> dict[str, Any]:
    version = _facet("1-0-1", "DatasetVersionDatasetFacet", datasetVersion=f"sha256:{digest}")
    return {"namespace": namespace, "name": ref, "facets": {"version": version}}


def _facet(version: str, name: str, /, **fields: Any) -> dict[str, Any]:
    return {
        "_producer": _PRODUCER,
        "_schemaURL": f"{_SPEC}/facets/{version}/{name}.json#/$defs/{name}",
        **fields,
    }


def _time(node: Node) -> str:
    """When it was made, in RFC 3339."""
    try:
        made = datetime.fromisoformat(node["created"])
    except ValueError as error:
        raise DataError(
            f"{node['ref']} was made at {node['created'][:80]!r}: not a time", "use another --format"
        ) from error
    return (made if made.tzinfo else made.replace(tzinfo=UTC)).isoformat()


def html(graph: Graph) -> str:
    """One page of a detailed graph: a picture, then all that is known of each artifact.

    It loads nothing and runs nothing, and follows the reader's light or dark mode.
    """
    nodes, ids = _oldest_first(graph), _ids(graph)
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
        "commit": _code(_commit(node, 40)), "digest": _code(node["digest"]),
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
    return escape(_plain(text), quote=True)


def _headline(node: Node) -> str:
    key = node["key_metric"]
    return f"{key} {_number(node['metrics'][key])}" if key in node["metrics"] else ""


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _commit(node: Node, digits: int = 12) -> str:
    commit = _plain((node["provenance"]["commit"] or "?")[:digits])
    return f"{commit} with changes" if node["provenance"]["dirty"] else commit


def _plain(text: str) -> str:
    """Text whose control, bidirectional and other invisible characters are written as escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _coded(text: str, mark: str) -> str:
    """A label in quotes: everything but harmless ASCII as a numeric code, ``#34;`` or ``&#34;``."""
    return _SPECIAL.sub(lambda match: f"{mark}{ord(match[0])};", text)


def _ids(graph: Graph) -> dict[str, str]:
    """Ref -> an id that is safe in every format."""
    return {node["ref"]: f"n{number}" for number, node in enumerate(graph["nodes"])}


def _oldest_first(graph: Graph) -> list[Node]:
    """The nodes, each after its parents."""
    nodes = {node["ref"]: node for node in graph["nodes"]}
    parents: dict[str, list[str]] = defaultdict(list)
    for edge in graph["edges"]:
        parents[edge["child"]].append(edge["parent"])
    order: dict[str, Node] = {}
    entered: set[str] = set()
    pending = [(ref, False) for ref in reversed(nodes)]
    while pending:
        ref, is_left = pending.pop()
        if is_left:
            order[ref] = nodes[ref]
        elif ref not in entered:
            entered.add(ref)
            pending.append((ref, True))
            pending.extend((parent, False) for parent in reversed(parents[ref]))
    return list(order.values())


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
