"""``nanochat art`` on a small store: looking, checking, naming, copying, cleaning up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
Damage = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("small_home")
EVERYTHING = ["base/demo@v1", "tokenizer/demo@v1", "tokenizer/demo@v2"]


def document(cli: Cli, *arguments: str, rc: int = 0) -> Any:
    return json.loads(cli("art", *arguments, "--json", rc=rc).out)


def rows(text: str) -> list[list[str]]:
    """The words of each line that starts with a ref."""
    return [line.split() for line in text.splitlines() if "/demo@" in line.lstrip().split(" ")[0]]


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ((), EVERYTHING), (("tokenizer",), EVERYTHING[1:]), (("tokenizer/",), EVERYTHING[1:]),
        (("base/demo",), ["base/demo@v1"]), (("base/other",), []), (("report",), []),
    ],
)  # fmt: skip
def test_ls_lists_everything_a_kind_or_a_name(what: tuple[str, ...], found: list[str], cli: Cli) -> None:
    assert [node["ref"] for node in document(cli, "ls", *what)] == found
    assert [row[0] for row in rows(cli("art", "ls", *what).out)] == found


def test_ls_shows_aliases_digest_and_the_metric_that_matters(cli: Cli) -> None:
    nodes = {node["ref"]: node for node in document(cli, "ls")}
    assert nodes["tokenizer/demo@v2"]["aliases"] == ["latest"]
    assert nodes["tokenizer/demo@v1"]["aliases"] == []
    row = rows(cli("art", "ls", "tokenizer").out)[1]
    assert row[1:3] == ["latest", nodes["tokenizer/demo@v2"]["digest"][:12]]
    assert "loss 1" in " ".join(row)


@pytest.mark.parametrize("what", ["../demo", "base/demo@v1", "Base/x"])
def test_ls_refuses_what_is_no_kind_or_name(what: str, cli: Cli) -> None:
    assert "is not allowed" in cli("art", "ls", what, rc=2).err


@pytest.mark.parametrize("ref", ["tokenizer/demo", "tokenizer/demo@latest", "tokenizer/demo@v2"])
def test_show_finds_a_version_by_any_of_its_names(ref: str, cli: Cli) -> None:
    node = document(cli, "show", ref)
    assert (node["ref"], node["config"]) == ("tokenizer/demo@v2", {"text": "other", "shards": []})
    assert document(cli, "show", f"tokenizer/demo@sha256:{node['digest'][:10]}") == node


def test_show_tells_people_recipe_files_and_metrics(cli: Cli) -> None:
    lines = [" ".join(line.split()) for line in cli("art", "show", "base/demo").out.splitlines()]
    node = document(cli, "show", "base/demo")
    for fact in ("artifact base/demo@v1", "aliases latest", "parents tokenizer/demo@v1", "metric loss 1.0",
                 "config text payload", f"digest {node['digest']}"):  # fmt: skip
        assert fact in lines
    assert {file["path"] for file in node["files"]} == {
        "payload.txt", "run/log.txt", "run/process.json", "run/records.jsonl", "run/summary.json",
    }  # fmt: skip
    assert all(any(line.startswith(file["path"]) for line in lines) for file in node["files"])
    assert node["bytes"] == sum(file["size"] for file in node["files"])


def test_lineage_goes_back_to_what_it_was_made_from_and_forward(cli: Cli) -> None:
    edge = {"parent": "tokenizer/demo@v1", "child": "base/demo@v1", "role": "tokenizer"}
    back, forward = (
        document(cli, "lineage", "base/demo"),
        document(cli, "lineage", edge["parent"], "--forward"),
    )
    assert (back["root"], back["edges"]) == ("base/demo@v1", [edge])
    assert (forward["root"], forward["edges"]) == ("tokenizer/demo@v1", [edge])
    assert {node["ref"] for node in back["nodes"]} == {"base/demo@v1", "tokenizer/demo@v1"}
    assert document(cli, "lineage", "tokenizer/demo@v2", "--forward")["edges"] == []


def test_lineage_is_a_tree_unless_told_otherwise(cli: Cli) -> None:
    digests = {node["ref"]: node["digest"][:12] for node in document(cli, "ls")}
    text = cli("art", "lineage", "base/demo").out
    assert cli("art", "lineage", "base/demo", "--format", "tree").out == text
    head, child, parent = (line.split() for line in text.splitlines())
    assert head == ["artifact", "read", "as", "digest", "commit"]
    assert child[:2] == ["base/demo@v1", digests["base/demo@v1"]]
    assert parent[:4] == ["└─", "tokenizer/demo@v1", "tokenizer", digests["tokenizer/demo@v1"]]
    forward = cli("art", "lineage", "tokenizer/demo@v1", "--forward").out.splitlines()
    assert forward[2].split()[:3] == ["└─", "base/demo@v1", "tokenizer"]


@pytest.mark.parametrize("forward", [(), ("--forward",)])
def test_lineage_prints_the_same_json_by_either_option(forward: tuple[str, ...], cli: Cli) -> None:
    printed = cli("art", "lineage", "tokenizer/demo@v1", *forward, "--json").out
    assert json.loads(printed).keys() == {"root", "nodes", "edges"}
    for options in (("--format", "json"), ("--format", "json", "--json")):
        assert cli("art", "lineage", "tokenizer/demo@v1", *forward, *options).out == printed


@pytest.mark.parametrize(
    ("format", "start", "end"),
    [("mermaid", "flowchart LR\n", "px\n"), ("dot", "digraph lineage {\n", "}\n"),
     ("html", "<!doctype html>\n", "</html>\n"), ("openlineage", '{"eventType": "COMPLETE"', "}\n")],
)  # fmt: skip
def test_lineage_in_other_formats(format: str, start: str, end: str, cli: Cli) -> None:
    text = cli("art", "lineage", "base/demo", "--format", format).out
    assert text.startswith(start)
    assert text.endswith(end)
    assert not text.endswith("\n\n")
    assert {"base/demo@v1", "tokenizer/demo@v1"} <= set(re.findall(r"[a-z]+/demo@v\d", text))


def test_lineage_events_name_the_store(cli: Cli, small_home: Path) -> None:
    lines = cli("art", "lineage", "base/demo", "--format", "openlineage").out.splitlines()
    made = [json.loads(line)["outputs"][0] for line in lines]
    assert [dataset["name"] for dataset in made] == ["tokenizer/demo@v1", "base/demo@v1"]
    assert {dataset["namespace"] for dataset in made} == {(small_home / "store").as_uri()}


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--format", "svg"), "svg"), (("--json", "--format", "dot"), "--json and --format dot exclude each")],
)  # fmt: skip
def test_lineage_refuses_a_format_that_it_has_not_or_two(
    options: tuple[str, ...], message: str, cli: Cli
) -> None:
    ended = cli("art", "lineage", "base/demo", *options, rc=2)
    assert message in ended.err
    assert ended.out == ""


def test_lineage_writes_nothing(cli: Cli, small_home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_home.rglob("*")}
    for format in ("tree", "json", "mermaid", "dot", "html", "openlineage"):
        cli("art", "lineage", "base/demo", "--format", format)
    assert {path: path.stat().st_mtime_ns for path in small_home.rglob("*")} == before


@pytest.mark.parametrize("ref", [(), ("base/demo",)])
def test_verify_of_an_intact_store_says_so(ref: tuple[str, ...], cli: Cli) -> None:
    assert cli("art", "verify", *ref).out == "intact\n"
    assert document(cli, "verify", *ref) == {"ok": True, "deep": True, "problems": []}


@pytest.mark.parametrize("ref", [(), ("base/demo",)])
def test_verify_names_what_is_damaged_and_ends_with_3(ref: tuple[str, ...], cli: Cli, damage: Damage) -> None:
    damage("base/demo@v1", "payload.txt")
    hint = "rebuild it: nanochat run PRESET --force second"
    problem = {
        "ref": "base/demo@v1", "file": "payload.txt", "what": "does not have its sha256", "hint": hint,
    }  # fmt: skip
    assert document(cli, "verify", *ref, rc=3) == {"ok": False, "deep": True, "problems": [problem]}
    ended = cli("art", "verify", *ref, rc=3)
    assert "base/demo@v1: payload.txt does not have its sha256" in ended.err
    assert hint in ended.err


def test_verify_names_every_damaged_file(cli: Cli, damage: Damage) -> None:
    for ref in EVERYTHING:
        damage(ref, "payload.txt")
    ended = cli("art", "verify", rc=3)
    assert all(f"{ref}: payload.txt" in ended.out + ended.err for ref in EVERYTHING)


def test_verify_without_reading_says_so_and_finds_what_is_missing(cli: Cli, damage: Damage) -> None:
    blob = damage("base/demo@v1", "payload.txt")
    said = "every file is there and has its size; bytes were not read\n"
    for options in (("--no-deep",), ("--no-deep", "--all"), ("base/demo", "--no-deep")):
        assert cli("art", "verify", *options).out == said
    assert document(cli, "verify", "--no-deep") == {"ok": True, "deep": False, "problems": []}
    assert "payload.txt does not have its sha256" in cli("art", "verify", "--all", "--deep", rc=3).err
    blob.write_bytes(b"short")
    assert "payload.txt has 5 bytes, not " in cli("art", "verify", "--no-deep", rc=3).err
    blob.unlink()
    assert "payload.txt is missing" in cli("art", "verify", "base/demo", "--no-deep", rc=3).err


def test_verify_of_one_and_of_all_exclude_each_other(cli: Cli) -> None:
    assert "base/demo and --all exclude each other" in cli("art", "verify", "base/demo", "--all", rc=2).err


def test_verify_of_one_passes_over_damage_elsewhere(cli: Cli, damage: Damage) -> None:
    damage("base/demo@v1", "payload.txt")
    assert cli("art", "verify", "tokenizer/demo").out == "intact\n"


def test_an_alias_is_another_name_until_it_is_moved(cli: Cli) -> None:
    made = document(cli, "alias", "tokenizer/demo@v1", "prod")
    assert made == {"alias": "tokenizer/demo@prod", "artifact": "tokenizer/demo@v1"}
    assert document(cli, "show", "tokenizer/demo@prod")["ref"] == "tokenizer/demo@v1"
    moved = cli("art", "alias", "tokenizer/demo", "prod")
    assert moved.out == "tokenizer/demo@prod is tokenizer/demo@v2\n"
    assert document(cli, "show", "tokenizer/demo@prod")["aliases"] == ["latest", "prod"]


@pytest.mark.parametrize("alias", ["latest", "v3", "../x", "Prod"])
def test_an_alias_that_would_confuse_is_refused(alias: str, cli: Cli) -> None:
    assert repr(alias).strip("'") in cli("art", "alias", "base/demo", alias, rc=2).err
    assert document(cli, "show", "base/demo")["aliases"] == ["latest"]


def test_get_copies_the_files_into_a_new_folder(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "copy"
    assert cli("art", "get", "base/demo", str(folder)).out == f"base/demo@v1 is in {folder}\n"
    assert (folder / "payload.txt").read_text() == "payload payload.txt run"
    assert (folder / "run" / "summary.json").is_file()
    (folder / "payload.txt").write_text("mine now")
    assert cli("art", "verify").out == "intact\n"
    again = tmp_path / "again"
    made = {"artifact": "base/demo@v1", "folder": str(again)}
    assert document(cli, "get", "base/demo", str(again)) == made


@pytest.mark.parametrize("holds", [True, False])
def test_get_leaves_a_folder_that_exists_alone(holds: bool, cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    if holds:
        (folder / "notes.txt").write_text("keep me")
    ended = cli("art", "get", "base/demo", str(folder), rc=2)
    assert ended.err == f"error: {folder} exists (name a new folder)\n"
    assert [path.name for path in folder.iterdir()] == ["notes.txt"] * holds


def test_get_of_a_damaged_artifact_copies_nothing(cli: Cli, damage: Damage, tmp_path: Path) -> None:
    damage("base/demo@v1", "payload.txt")
    before = sorted(tmp_path.iterdir())
    ended = cli("art", "get", "base/demo", str(tmp_path / "copy"), rc=3)
    assert ended.err == (
        "error: base/demo@v1 is damaged: payload.txt does not have its sha256"
        " (rebuild it: nanochat run PRESET --force second)\n"
    )
    assert sorted(tmp_path.iterdir()) == before


def test_get_into_a_folder_that_cannot_be_made_says_why(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = cli("art", "get", "base/demo", str(tmp_path / "file" / "copy"), rc=4)
    assert "a part of the path is a file (choose another folder)" in ended.err


@pytest.mark.parametrize("command", ["show", "lineage", "verify", "get", "alias"])
def test_an_unknown_ref_is_answered_with_what_there_is(command: str, cli: Cli, tmp_path: Path) -> None:
    more = {"get": [str(tmp_path / "copy")], "alias": ["prod"]}.get(command, [])
    unknown_name = cli("art", command, "base/dem", *more, rc=4)
    assert unknown_name.err == "error: no artifact base/dem@latest (did you mean base/demo?)\n"
    unknown_version = cli("art", command, "tokenizer/demo@v7", *more, rc=4)
    assert unknown_version.err.endswith("(the newest version is tokenizer/demo@v2)\n")
    assert "is not an alias" in cli("art", command, "base/demo@v0", *more, rc=2).err


def test_another_store_is_asked_with_the_option(cli: Cli, small_home: Path, tmp_path: Path) -> None:
    (small_home / "store").rename(tmp_path / "elsewhere")
    assert document(cli, "ls", "--store", str(tmp_path / "elsewhere"))[0]["ref"] == "base/demo@v1"
    assert "is not a store" in cli("art", "ls", rc=4).err
    assert not (small_home / "store").exists(), "looking makes no store"
