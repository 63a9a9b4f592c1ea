"""Every format of a lineage: what it says, and that no name, role or config can break out of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from artifacts.errors import DataError
from artifacts.lineage import descendants, graph
from artifacts.lineage_formats import detailed, dot, html, mermaid, openlineage, tree
from artifacts.manifest import Hardware, Provenance
from artifacts.store import Store

COMMIT = "0123456789abcdef" * 2 + "01234567"
URI = r"^[a-z][a-z0-9+.-]*:[^\s<>\"{}|\\^`]+$"
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"
UUID5 = r"^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def small_node(ref: str, text: str = "", config: Any = None, parents: list[dict] | None = None) -> dict:
    """A detailed node; ``text`` is in every field that may hold any text."""
    return {
        "ref": ref, "kind": "base", "digest": digest_of(ref), "stage": "base", "config": config or {},
        "provenance": {
            "commit": text or None, "dirty": text or None, "command": text, "versions": {text: text},
            "hardware": {"cpu": text, "cores": 2, "gpus": [text]}, "settings": {text: text},
        },
        "manifest": digest_of(ref + "manifest"), "created": "2026-01-02T03:04:05+00:00", "bytes": 7,
        "files": 2, "metrics": {text: text}, "key_metric": text, "parents": parents or [],
    }  # fmt: skip


HOSTILE = st.one_of(
    st.text(max_size=12),
    st.text(st.sampled_from("\"'<>&;#%{}[]()|\\`$:*_~-=\n\r\t\0\x1b\u202e\u2028 anfr"), max_size=12),
    st.sampled_from(
        ["-->", "</script>", '"]; n9["', "%%{init:{}}%%", "&quot;", "#quot;", "\\N", "]]>", "end"]
    ),
)
CONFIG = st.dictionaries(
    HOSTILE, st.one_of(HOSTILE, st.lists(HOSTILE, max_size=2), st.integers()), max_size=3
)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Detailed graphs whose root, the first node, was made from some of the others."""
    refs = draw(st.lists(HOSTILE, min_size=1, max_size=5, unique=True))
    pairs = [(parent, child) for child in range(len(refs)) for parent in range(child + 1, len(refs))]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=8)) if pairs else []
    edges = [{"parent": refs[a], "child": refs[b], "role": draw(HOSTILE)} for a, b in chosen]
    nodes = []
    for ref in refs:
        parents = [
            {"role": edge["role"], "ref": edge["parent"], "digest": digest_of(edge["parent"])}
            for edge in edges if edge["child"] == ref
        ]  # fmt: skip
        nodes.append(small_node(ref, draw(HOSTILE), draw(CONFIG), parents))
    return {"root": refs[0], "nodes": nodes, "edges": edges}


def chain(*refs: str, role: str = "model") -> dict[str, Any]:
    """A graph in which each ref was made from the next."""
    edges = [{"parent": parent, "child": child, "role": role} for child, parent in pairwise(refs)]
    return {"root": refs[0], "nodes": [small_node(ref) for ref in refs], "edges": edges}


def shown(text: str) -> str:
    """How a label reads: invisible characters are escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reachable(found: dict) -> set[str]:
    reached, size = {found["root"]}, 0
    while size != len(reached):
        size = len(reached)
        reached |= {edge["parent"] for edge in found["edges"] if edge["child"] in reached}
    return reached


@pytest.fixture
def family(make, parent_of: Callable) -> dict:
    """shards -> tokenizer; shards and tokenizer -> base -> report."""
    provenance = Provenance(
        commit=COMMIT, dirty="a" * 64, command="nanochat run demo", versions={"python": "3.12"},
        hardware=Hardware(cpu="A CPU", cores=2),
    )  # fmt: skip
    shards = make.commit({"s": b"s"}, stage="shards")
    tokenizer = make.commit({"t": b"t"}, stage="tokenizer", parents=(parent_of(shards, "shards"),))
    both = (parent_of(shards, "shards"), parent_of(tokenizer, "tokenizer"))
    base = make.commit(
        {"b": b"b"}, stage="base", parents=both, provenance=provenance, metrics={"val_bpb": 1.23456},
        key_metric="val_bpb", created="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    report = make.commit({"r": b"r"}, stage="report", parents=(parent_of(base, "base"),))
    return {"shards": shards, "tokenizer": tokenizer, "base": base, "report": report}


def test_the_tree_opens_each_artifact_once(family: dict, store: Store) -> None:
    lines = [re.split(r"  +(?=\S)", line) for line in tree(graph(store, "report/demo")).splitlines()]
    short = {stage: made.manifest.digest[:12] for stage, made in family.items()}
    assert lines == [
        ["artifact", "read as", "digest", "commit"],
        ["report/demo@v1", short["report"], "?"],
        ["└─ base/demo@v1", "base", short["base"], f"{COMMIT[:12]} with changes"],
        ["", "├─ shards/demo@v1", "shards", short["shards"], "?"],
        ["", "└─ tokenizer/demo@v1", "tokenizer", short["tokenizer"], "?"],
        ["", "└─ shards/demo@v1 (seen above)", "shards"],
    ]  # fmt: skip


def test_the_tree_goes_forward_too(family: dict, store: Store) -> None:
    names = [
        line[: line.index("@v1") + 3] for line in tree(descendants(store, "tokenizer/demo")).splitlines()[1:]
    ]
    assert names == ["tokenizer/demo@v1", "└─ base/demo@v1", "   └─ report/demo@v1"]


def test_an_artifact_read_in_two_roles_is_one_line_of_the_tree() -> None:
    found = chain("eval/a@v1", "base/a@v1")
    found["edges"].append(found["edges"][0] | {"role": "baseline"})
    assert "model, baseline" in tree(found)
    assert len(tree(found).splitlines()) == 3


@given(graphs())
def test_no_text_breaks_the_tree(found: dict) -> None:
    text = tree(found)
    assert all(character.isprintable() or character == "\n" for character in text)
    steps = {(edge["child"], edge["parent"]) for edge in found["edges"] if edge["child"] in reachable(found)}
    assert len(text.split("\n")) == len(steps) + 3
    for node in found["nodes"]:
        assert text.count(node["digest"][:12]) == (node["ref"] in reachable(found))


CODED = r"((?:[A-Za-z0-9 ./@+=_-]|MARK[0-9]+;)*)"


def labels(text: str, node: str, edge: str, mark: str) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """The labels by id and the edges (parent, child, label); every line must have one of the given shapes."""
    label = CODED.replace("MARK", mark)
    ids, edges = {}, []
    for line in text.splitlines():
        if match := re.fullmatch(node.replace("LABEL", label), line):
            assert match[1] not in ids
            ids[match[1]] = match[2]
        else:
            match = re.fullmatch(edge.replace("LABEL", label), line)
            assert match, line
            edges.append(match.group("parent", "child", "role"))
    return ids, edges


MERMAID_EDGE = rf'  (?P<parent>n\d+) -->\|"(?P<role>{"LABEL"})"\| (?P<child>n\d+)'


@given(graphs())
@example(chain('"] --> x["', "a\\nb$$c", role="fa:fa-car"))
def test_mermaid_says_every_name_and_nothing_else(found: dict) -> None:
    first, *lines, last = mermaid(found).rstrip("\n").split("\n")
    assert (first, last) == ("flowchart LR", "  style n0 stroke-width:3px")
    node = r'  (n\d+)\["LABEL<br/>[0-9a-f]{12}"\]'
    ids, edges = labels("\n".join(lines), node, MERMAID_EDGE, "#")

    def read(label: str) -> str:
        text = re.sub(r"#(\d+);", lambda code: chr(int(code[1])), label)
        assert not re.search(r"fa:fa|\$\$|\\n", text), "Mermaid would draw it"
        return text.replace("\u2060", "")

    names = {name: read(label) for name, label in ids.items()}
    assert list(names.values()) == [shown(node["ref"]) for node in found["nodes"]]
    expected = [(shown(edge["parent"]), shown(edge["child"]), shown(edge["role"])) for edge in found["edges"]]
    assert [(names[a], names[b], read(role)) for a, b, role in edges] == expected


@given(graphs())
@example(chain('"]; x [label="', "a\\", role="\\N &quot;"))
def test_dot_says_every_name_and_nothing_else(found: dict) -> None:
    lines = dot(found).rstrip("\n").split("\n")
    assert (lines[0], lines[-1]) == ("digraph lineage {", "}")
    node = r'  (n\d+) \[label="LABEL\\n[0-9a-f]{12}"(?:, penwidth=3)?\];'
    edge = r'  (?P<parent>n\d+) -> (?P<child>n\d+) \[label="(?P<role>LABEL)"\];'
    ids, edges = labels("\n".join(lines[4:-1]), node, edge, "&#")

    def read(label: str) -> str:
        text = unescape(label)
        assert "\\" not in text.replace("\\\\", ""), "Graphviz would read an escape"
        return text.replace("\\\\", "\\")

    names = {name: read(label) for name, label in ids.items()}
    assert list(names.values()) == [shown(node["ref"]) for node in found["nodes"]]
    expected = [(shown(edge["parent"]), shown(edge["child"]), shown(edge["role"])) for edge in found["edges"]]
    assert [(names[a], names[b], read(role)) for a, b, role in edges] == expected


class Page(HTMLParser):
    """The elements and the text of a page."""

    EMPTY = frozenset({"meta", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"comment {data!r}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"declaration {data!r}")


TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "div", "svg", "path", "circle",
    "ol", "li", "a", "code", "span", "time", "section", "dl", "dt", "dd", "small", "b", "details", "summary",
    "pre",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "http-equiv", "class", "d", "cx", "cy", "r", "width", "height",
    "aria-hidden", "href", "id",
}  # fmt: skip


@given(graphs())
@example(chain("</title><script>alert(1)</script>", "' onclick='x", role='"><img src=x>'))
def test_the_page_holds_every_text_as_text(found: dict) -> None:
    source = html(found)
    assert all(character.isprintable() or character == "\n" for character in source)
    page = Page(source)
    assert {tag for tag, _ in page.tags} <= TAGS
    assert {name for _, attributes in page.tags for name in attributes} <= ATTRIBUTES
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert ids == list(dict.fromkeys(ids))
    assert {attributes["href"] for tag, attributes in page.tags if tag == "a"} == {f"#{name}" for name in ids}
    for node in found["nodes"]:
        for text in (node["ref"], node["provenance"]["command"]):
            assert shown(text) in page.text
        for key in node["config"]:
            assert shown(json.dumps(key, ensure_ascii=False)) in page.text


def test_the_page_loads_and_runs_nothing(family: dict, store: Store) -> None:
    source = html(detailed(store, graph(store, "report/demo")))
    assert "default-src 'none'; style-src 'unsafe-inline'" in source
    assert not re.search(r"<script|\bon\w+=|url\(|@import|https?:", source)
    assert "prefers-color-scheme: dark" in source


def test_the_page_tells_what_is_known(family: dict, store: Store) -> None:
    source = html(detailed(store, graph(store, "report/demo")))
    text = Page(source).text.replace("\N{NO-BREAK SPACE}", " ")
    base = family["base"].manifest
    for fact in (base.digest, base.hex, f"{COMMIT} with changes", "nanochat run demo", "A CPU, 2 cores",
                 "val_bpb 1.235", "2026-01-02 03:04", "made fromshards/demo@v1 as shards, tokenizer/demo@v1",
                 "used byreport/demo@v1 as base", "4 artifacts"):  # fmt: skip
        assert fact in text
    places = [source.index(f">{stage}/demo@v1</a><code>") for stage in family]
    assert places == sorted(places), "oldest first"
    assert re.findall(r'<li class="root"><a href="#n0">([^<]*)', source) == ["report/demo@v1"]


def test_a_parent_outside_the_graph_is_named_but_no_link(family: dict, store: Store) -> None:
    source = html(detailed(store, descendants(store, "tokenizer/demo")))
    assert "<dd>shards/demo@v1 <small>as shards</small>" in source


FACET = {
    "type": "object", "required": ["_producer", "_schemaURL"],
    "properties": {"_producer": {"type": "string", "pattern": URI},
                   "_schemaURL": {"type": "string", "pattern": URI}},
}  # fmt: skip


def facets(**known: dict[str, Any]) -> dict[str, Any]:
    """An object of facets; ``known``: name -> properties, all of them required."""
    properties = {
        name: {"allOf": [FACET, {"properties": fields, "required": list(fields)}]}
        for name, fields in known.items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": FACET}


STRING, NUMBER = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
DATASET = {
    "type": "object", "required": ["namespace", "name"],
    "properties": {
        "namespace": STRING, "name": {"type": "string"},
        "facets": facets(version={"datasetVersion": STRING}),
        "outputFacets": facets(outputStatistics={"size": NUMBER, "fileCount": NUMBER}),
    },
}  # fmt: skip
RUN_EVENT = {
    "type": "object",
    "required": ["eventType", "eventTime", "producer", "schemaURL", "run", "job"],
    "additionalProperties": False,
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "pattern": TIME},
        "producer": {"type": "string", "pattern": URI},
        "schemaURL": {"const": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"},
        "run": {
            "type": "object", "required": ["runId"],
            "properties": {
                "runId": {"type": "string", "pattern": UUID5},
                "facets": facets(executionParameters={"parameters": {
                    "type": "array",
                    "items": {"type": "object", "required": ["key"], "additionalProperties": False,
                              "properties": {"key": {"type": "string"}, "value": {"type": "string"}}},
                }}),
            },
        },
        "job": {
            "type": "object", "required": ["namespace", "name"],
            "properties": {
                "namespace": STRING, "name": STRING,
                "facets": facets(
                    sourceCodeLocation={"type": STRING, "url": {"type": "string", "pattern": URI}},
                    jobType={"processingType": STRING, "integration": STRING},
                ),
            },
        },
        "inputs": {"type": "array", "items": DATASET},
        "outputs": {"type": "array", "items": DATASET},
    },
}  # fmt: skip
VALIDATOR = jsonschema.Draft202012Validator(RUN_EVENT)


def events_of(found: dict, url: str = "s3://bucket/store") -> list[dict]:
    text = openlineage(found, url)
    assert text.endswith("\n")
    events = [json.loads(line) for line in text[:-1].split("\n")]
    for event in events:
        VALIDATOR.validate(event)
    return events


@given(graphs())
def test_openlineage_has_a_valid_event_for_each_artifact_parents_first(found: dict) -> None:
    events = events_of(found)
    assert len({event["run"]["runId"] for event in events}) == len(found["nodes"])
    made: list[str] = []
    nodes = {node["ref"]: node for node in found["nodes"]}
    for event in events:
        inputs = [dataset["name"] for dataset in event["inputs"]]
        assert len(set(inputs)) == len(inputs)
        assert set(inputs) <= set(made)
        (output,) = event["outputs"]
        node = nodes[output["name"]]
        parameters = event["run"]["facets"]["executionParameters"]["parameters"]
        assert {item["key"]: item["value"] for item in parameters} == {
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in node["config"].items()
        }
        assert set(inputs) == {edge["parent"] for edge in found["edges"] if edge["child"] == node["ref"]}
        made.append(node["ref"])
    assert sorted(made) == sorted(nodes)


def test_openlineage_names_digests_commit_and_times(family: dict, store: Store) -> None:
    found = detailed(store, graph(store, "report/demo"))
    event = events_of(found)[2]
    assert event["eventType"] == "COMPLETE"
    assert event["eventTime"] == "2026-01-02T03:04:05+00:00"
    assert event["job"]["name"] == "base:base/demo@v1"
    code = event["job"]["facets"]["sourceCodeLocation"]
    assert (code["type"], code["version"]) == ("git", f"{COMMIT}-dirty")
    assert code["url"].endswith(COMMIT)
    datasets = [*event["inputs"], *event["outputs"]]
    assert [item["name"] for item in datasets] == ["shards/demo@v1", "tokenizer/demo@v1", "base/demo@v1"]
    assert {item["namespace"] for item in datasets} == {"s3://bucket/store"}
    for item, stage in zip(datasets, ("shards", "tokenizer", "base"), strict=True):
        assert item["facets"]["version"]["datasetVersion"] == f"sha256:{family[stage].manifest.digest}"
    statistics = event["outputs"][0]["outputFacets"]["outputStatistics"]
    assert (statistics["size"], statistics["fileCount"]) == (family["base"].manifest.total_bytes, 2)
    assert "sourceCodeLocation" not in events_of(found)[0]["job"]["facets"], "its commit is not known"
    assert openlineage(found, "s3://bucket/store") == openlineage(found, "s3://bucket/store")


def test_openlineage_names_a_folder_by_its_url() -> None:
    event = events_of(chain("base/a@v1"), "/some folder/store")[0]
    assert event["outputs"][0]["namespace"] == "file:///some%20folder/store"


def test_openlineage_knows_parents_that_a_forward_walk_does_not_show(family: dict, store: Store) -> None:
    tokenizer, base, _ = events_of(detailed(store, descendants(store, "tokenizer/demo")))
    assert [item["name"] for item in tokenizer["inputs"]] == ["shards/demo@v1"]
    assert [item["name"] for item in base["inputs"]] == ["shards/demo@v1", "tokenizer/demo@v1"]


@pytest.mark.parametrize(
    ("created", "time"),
    [("2026-01-02T03:04:05", "2026-01-02T03:04:05+00:00"), ("2026-01-02T03:04:05+01:00",) * 2],
)
def test_a_time_without_a_zone_is_utc(created: str, time: str) -> None:
    found = chain("base/a@v1")
    found["nodes"][0]["created"] = created
    assert events_of(found)[0]["eventTime"] == time


def test_what_is_no_time_is_named() -> None:
    found = chain("base/a@v1")
    found["nodes"][0]["created"] = "yester\nday"
    with pytest.raises(DataError, match=r"base/a@v1 was made at 'yester\\nday': not a time"):
        openlineage(found, "s3://bucket")


def test_details_are_found_where_a_parent_lost_its_name(family: dict, store: Store, root: Path) -> None:
    (root / "names" / "shards" / "demo" / "v1.json").unlink()
    found = detailed(store, graph(store, "report/demo"))
    by_ref = {node["ref"]: node for node in found["nodes"]}
    shards = family["shards"].manifest
    more = by_ref["shards/demo@v1"]
    assert (more["manifest"], more["created"], more["files"]) == (shards.hex, shards.created, 2)
    assert more["bytes"] == shards.total_bytes
    assert [item["ref"] for item in by_ref["base/demo@v1"]["parents"]] == [
        "shards/demo@v1",
        "tokenizer/demo@v1",
    ]


def test_details_leave_the_graph_as_it_was(family: dict, store: Store) -> None:
    found = graph(store, "report/demo")
    before = json.dumps(found)
    more = detailed(store, found)
    assert json.dumps(found) == before
    assert (more["root"], more["edges"]) == (found["root"], found["edges"])
