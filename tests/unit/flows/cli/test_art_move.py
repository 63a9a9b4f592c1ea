"""``nanochat art export``, ``import`` and ``diff`` on a small store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("small_home")


def document(cli: Cli, *arguments: str, rc: int = 0) -> Any:
    return json.loads(cli("art", *arguments, "--json", rc=rc).out)


@pytest.mark.parametrize("name", ["out.tar", "out.tar.gz"])
def test_an_artifact_moves_to_another_store_with_its_lineage(name: str, cli: Cli, tmp_path: Path) -> None:
    file, there = tmp_path / name, tmp_path / "there"
    said = cli("art", "export", "base/demo", str(file)).out
    assert said.startswith(f"base/demo@v1 is in {file}, ")
    assert said.endswith(", with tokenizer/demo@v1\n")
    assert cli("art", "import", str(file), "--store", str(there)).out == "base/demo@v1\ntokenizer/demo@v1\n"
    lineage = document(cli, "lineage", "base/demo", "--store", str(there))
    assert lineage == document(cli, "lineage", "base/demo")
    assert cli("art", "verify", "--store", str(there)).out == "intact\n"


def test_they_tell_programs_the_same(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "out.tar"
    assert document(cli, "export", "base/demo", str(file)) == {
        "artifact": "base/demo@v1", "file": str(file), "bytes": file.stat().st_size,
        "holds": ["base/demo@v1", "tokenizer/demo@v1"],
    }  # fmt: skip
    assert document(cli, "import", str(file), "--store", str(tmp_path / "there")) == {
        "artifact": "base/demo@v1",
        "imported": [{"was": ref, "artifact": ref} for ref in ("base/demo@v1", "tokenizer/demo@v1")],
    }


def test_import_says_which_version_each_became(cli: Cli, tmp_path: Path) -> None:
    first, second, there = tmp_path / "1.tar", tmp_path / "2.tar", str(tmp_path / "there")
    cli("art", "export", "tokenizer/demo@v2", str(first))
    cli("art", "export", "base/demo", str(second))
    assert cli("art", "import", str(first), "--store", there).out == (
        "tokenizer/demo@v1 was tokenizer/demo@v2\n"
    )
    assert cli("art", "import", str(second), "--store", there).out == (
        "base/demo@v1\ntokenizer/demo@v2 was tokenizer/demo@v1\n"
    )


def test_export_without_lineage_is_refused_where_that_is_absent(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "out.tar"
    said = cli("art", "export", "base/demo", str(file), "--no-lineage").out
    assert "tokenizer/demo" not in said
    ended = cli("art", "import", str(file), "--store", str(tmp_path / "there"), rc=3)
    assert "made from 'tokenizer/demo@v1', which is not in it" in ended.err
    assert cli("art", "import", str(file)).out == "base/demo@v1\n"


def test_export_leaves_a_file_that_exists_alone(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "out.tar"
    file.write_text("mine")
    assert "exists" in cli("art", "export", "base/demo", str(file), rc=2).err
    assert file.read_text() == "mine"


def test_export_of_a_damaged_artifact_leaves_no_file(cli: Cli, damage: Callable, tmp_path: Path) -> None:
    damage("tokenizer/demo@v1", "payload.txt")
    ended = cli("art", "export", "base/demo", str(tmp_path / "out.tar"), rc=3)
    assert "tokenizer/demo@v1 is damaged: payload.txt" in ended.err
    assert not (tmp_path / "out.tar").exists()


def test_a_refused_import_starts_no_store(cli: Cli, tmp_path: Path) -> None:
    file, there = tmp_path / "out.tar", tmp_path / "there"
    file.write_bytes(b"no tar")
    ended = cli("art", "import", str(file), "--store", str(there), rc=3)
    assert ended.err.count("\n") == 1
    assert not there.exists()
    assert "no file" in cli("art", "import", str(tmp_path / "absent"), rc=4).err


def test_diff_shows_what_differs_side_by_side(cli: Cli) -> None:
    lines = [
        " ".join(line.split())
        for line in cli("art", "diff", "tokenizer/demo@v1", "tokenizer/demo").out.splitlines()
    ]
    found = document(cli, "diff", "tokenizer/demo@v1", "tokenizer/demo")
    assert "tokenizer/demo@v1 tokenizer/demo@v2" in lines
    assert "config text payload other" in lines
    files = found["files"]["payload.txt"]
    assert f"files payload.txt {files['a'][:12]} {files['b'][:12]}" in lines
    assert found["config"] == {"text": {"a": "payload", "b": "other"}}
    assert found["code"] == {}


def test_diff_shows_what_one_of_them_lacks(cli: Cli) -> None:
    said = " ".join(cli("art", "diff", "tokenizer/demo", "base/demo").out.split())
    digest = document(cli, "show", "tokenizer/demo@v1")["digest"][:12]
    assert f"inputs tokenizer - tokenizer/demo@v1 {digest}" in said


def test_diff_of_equal_ones_says_so(cli: Cli) -> None:
    assert (
        cli("art", "diff", "base/demo", "base/demo@v1").out == "base/demo@v1 and base/demo@v1 do not differ\n"
    )
