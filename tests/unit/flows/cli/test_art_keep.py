"""``nanochat art pin``, ``unpin``, ``gc`` and ``adopt`` as people and programs use them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.store import Store

Cli = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("small_home")
EVERYTHING = ["base/demo@v1", "tokenizer/demo@v1", "tokenizer/demo@v2"]


def document(cli: Cli, *arguments: str, rc: int = 0) -> Any:
    return json.loads(cli("art", *arguments, "--json", rc=rc).out)


def versions() -> list[str]:
    return [str(version.ref) for version in Store.open(create=False).list()]


def make_old(home: Path) -> None:
    for path in (home / "store").rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))


@pytest.fixture
def third(small_home: Path) -> Path:
    """With a tokenizer/demo@v3, so that v2, from which nothing was made, is neither needed nor newest."""
    from flows.build import Builder
    from flows.observe import Observer
    from flows.settings import Settings
    from tests.unit.flows.conftest import FIRST
    from tests.unit.flows.fake_program import FakeConfig

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.identity.program_digests", lambda *_: ({"fake": "0" * 64}, False))
        builder = Builder(Store.open(), Settings(), {"first": FakeConfig(text="third")}, "demo")
        builder.build(builder.work(FIRST, {}), Observer())
    return small_home


def test_a_pin_is_shown_until_it_is_taken_away(cli: Cli) -> None:
    assert cli("art", "pin", "base/demo", "--note", "for the paper").out == "base/demo@v1 is pinned\n"
    node = document(cli, "show", "base/demo")
    assert node["pinned"]["note"] == "for the paper"
    lines = [" ".join(line.split()) for line in cli("art", "show", "base/demo").out.splitlines()]
    assert f"pinned since {node['pinned']['time']}: for the paper" in lines
    assert cli("art", "unpin", "base/demo").out == "base/demo@v1 is not pinned any more\n"
    assert document(cli, "show", "base/demo")["pinned"] is None
    assert "pinned" not in cli("art", "show", "base/demo").out
    assert "base/demo@v1 is not pinned" in cli("art", "unpin", "base/demo", rc=4).err


def test_pins_in_json(cli: Cli) -> None:
    made = document(cli, "pin", "tokenizer/demo@v1")
    assert (made["artifact"], made["pinned"]["note"]) == ("tokenizer/demo@v1", "")
    assert document(cli, "unpin", "tokenizer/demo@v1") == {"artifact": "tokenizer/demo@v1", "pinned": None}


@pytest.mark.parametrize("command", ["pin", "unpin"])
def test_an_unknown_ref_is_answered_with_what_there_is(command: str, cli: Cli) -> None:
    assert "did you mean base/demo?" in cli("art", command, "base/dem", rc=4).err


def test_gc_removes_only_what_nothing_refers_to(cli: Cli, small_home: Path) -> None:
    assert cli("art", "gc").out == "nothing to remove\n"
    stray = small_home / "store" / "blobs" / "sha256" / "00" / ("0" * 64)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"left by a crash")
    said = document(cli, "gc", "--dry-run")
    key = stray.relative_to(small_home / "store").as_posix()
    assert (said["removed"], said["later"], said["later_bytes"]) == ([], [key], 15)
    os.utime(stray, (0, 0))
    assert document(cli, "gc", "--dry-run") == {
        "dry_run": True, "expired": [], "removed": [key], "bytes": 15, "later": [], "later_bytes": 0,
    }  # fmt: skip
    assert cli("art", "gc", "--dry-run").out == f"{key}\n1 object, 15 B would be removed\n"
    assert stray.exists()
    assert cli("art", "gc").out == f"{key}\n1 object, 15 B were removed\n"
    assert not stray.exists()
    assert versions() == EVERYTHING
    assert cli("art", "verify").out == "intact\n"


def test_gc_by_a_rule_says_what_expires_and_what_goes_later(cli: Cli, third: Path) -> None:
    make_old(third)
    planned = document(cli, "gc", "--keep-last", "1", "--dry-run")
    assert [item["artifacts"] for item in planned["expired"]] == [["tokenizer/demo@v2"]]
    assert planned["removed"] == []
    assert len(planned["later"]) > 1
    assert planned["later_bytes"] > 0
    text = cli("art", "gc", "--keep-last", "1", "--dry-run").out
    assert "would expire" in text
    assert "tokenizer/demo@v2" in text
    assert "would stay for a day" in text
    assert versions() == [*EVERYTHING, "tokenizer/demo@v3"]
    done = document(cli, "gc", "--keep-last", "1")
    assert done == {**planned, "dry_run": False}
    assert versions() == ["base/demo@v1", "tokenizer/demo@v1", "tokenizer/demo@v3"]
    make_old(third)
    assert document(cli, "gc")["removed"] == planned["later"]
    assert cli("art", "verify").out == "intact\n"


def test_rules_of_gc_keep_what_any_of_them_keeps(cli: Cli, third: Path) -> None:
    def expired(*options: str) -> list[str]:
        return [ref for item in document(cli, "gc", "--dry-run", *options)["expired"]
                for ref in item["artifacts"]]  # fmt: skip

    assert expired("--keep-days", "1") == []
    make_old(third)
    assert expired("--keep-days", "1") == ["tokenizer/demo@v2"]
    assert expired("--keep-days", "1", "--keep-last", "2") == []
    assert expired("--keep-last", "1", "--only", "base") == []
    assert expired("--keep-last", "1", "--only", "base", "--only", "tokenizer") == ["tokenizer/demo@v2"]
    cli("art", "pin", "tokenizer/demo@v2")
    assert expired("--keep-last", "1") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--only", "base"), "but no rule"), (("--keep-last", "0"), "at least 1"),
     (("--keep-last", "1", "--only", "tokeniser"), "did you mean tokenizer?")],
)  # fmt: skip
def test_gc_refuses_rules_that_mean_nothing(options: tuple[str, ...], message: str, cli: Cli) -> None:
    assert message in cli("art", "gc", *options, rc=2).err


def test_adopt_prints_how_to_build_on_it(cli: Cli, tmp_path: Path) -> None:
    from nanochat.tokenizer.tokenizer import Tokenizer

    folder = tmp_path / "mine"
    folder.mkdir()
    Tokenizer(tuple(bytes([byte]) for byte in range(256))).save(folder / "tokenizer.json")
    (folder / "compression.json").write_text('{"schema": 1, "rows": []}')
    said = cli("art", "adopt", "tokenizer/mine", str(folder)).out.splitlines()
    assert said[0].startswith(f"tokenizer/mine@v1 holds what is in {folder}, ")
    assert said[1] == "build on it: nanochat run PRESET --reuse tokenizer=tokenizer/mine@v1"
    again = document(cli, "adopt", "tokenizer/mine", str(folder))
    assert again["artifact"] == "tokenizer/mine@v1"
    shown = document(cli, "show", "tokenizer/mine")
    assert shown["provenance"]["command"] == "nanochat art adopt tokenizer/mine FOLDER"
    assert str(tmp_path) not in json.dumps(shown)
    (folder / "tokenizer.json").write_text("{}")
    refused = cli("art", "adopt", "tokenizer/mine", str(folder), rc=3).err
    assert "tokenizer.json" in refused
    assert "nothing was stored" in refused
