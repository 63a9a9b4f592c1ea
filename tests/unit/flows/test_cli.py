"""How every command ends: its exit code, one line for an error, and one JSON document where asked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import DataError
from flows.cli import main

Cli = Callable[..., Any]
READING = [
    ("presets",), ("plan", "tiny"), ("art", "ls"), ("art", "ls", "base"),
    ("art", "show", "base/demo"), ("art", "lineage", "base/demo"), ("art", "verify"),
    ("art", "gc", "--dry-run"),
]  # fmt: skip
WRONG = [
    (("plan", "tyny"), 2, "usage", "unknown preset 'tyny'", "tiny"),
    (("plan", "tiny", "--until", "rll"), 2, "usage", "unknown stage 'rll'", "did you mean rl?"),
    (("run", "tiny", "--force", "evalute"), 2, "usage", "unknown stage 'evalute'", "did you mean evaluate?"),
    (("run", "tiny", "--reuse", "bsae=x"), 2, "usage", "unknown stage 'bsae'", "did you mean base?"),
    (("plan", "tiny", "--set", "rl.stpes=3"), 2, "usage", "unknown key 'rl.stpes'", "rl.steps"),
    (("plan", "tiny", "--set", "rl=3"), 2, "usage", "'rl' is a stage", "rl.steps"),
    (("plan", "tiny", "--set", "depth"), 2, "usage", "--set 'depth'", "--set base.steps=20"),
    (("art", "show", "base"), 2, "usage", "ref 'base' is incomplete", "kind/name@v3"),
    (("plna", "tiny"), 2, "usage", 'Did you mean "plan"?', "see nanochat COMMAND --help"),
    (("art", "shwo", "x/y"), 2, "usage", 'Did you mean "show"?', "see nanochat COMMAND --help"),
    (("presets", "--jsn"), 2, "usage", "Unknown option: --jsn. Did you mean --json?", "--help"),
    (("plan",), 2, "usage", "requires an argument", "--help"),
    (("art", "show", "base/dmo"), 4, "missing_resource", "no artifact base/dmo@latest", "base/demo?"),
    (("art", "show", "base/demo@v9"), 4, "missing_resource", "no artifact base/demo@v9", "base/demo@v1"),
    (("art", "ls", "--store", "/nowhere"), 4, "missing_resource", "/nowhere is not a store", "check --store"),
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_reading_command_prints_one_json_document_and_nothing_else(
    arguments: tuple[str, ...], cli: Cli, small_home: Path
) -> None:
    out = cli(*arguments, "--json").out
    assert out.count("\n") == 1
    assert isinstance(json.loads(out), dict | list)


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_without_json_it_prints_text_for_people(
    arguments: tuple[str, ...], cli: Cli, small_home: Path
) -> None:
    out = cli(*arguments).out
    assert out.strip()
    with pytest.raises(json.JSONDecodeError):
        json.loads(out)


@pytest.mark.parametrize(("arguments", "rc", "code", "message", "hint"), WRONG, ids=lambda v: str(v)[:30])
def test_an_error_is_one_line_on_stderr_that_says_what_to_do(
    arguments: tuple[str, ...], rc: int, code: str, message: str, hint: str, cli: Cli, small_home: Path
) -> None:
    ended = cli(*arguments, rc=rc)
    assert ended.out == ""
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("error: ")
    assert message in ended.err
    assert hint in ended.err


@pytest.mark.parametrize(("arguments", "rc", "code", "message", "hint"), WRONG, ids=lambda v: str(v)[:30])
def test_with_json_an_error_is_a_document_on_stderr(
    arguments: tuple[str, ...], rc: int, code: str, message: str, hint: str, cli: Cli, small_home: Path
) -> None:
    ended = cli(*arguments, "--json", rc=rc)
    assert ended.out == ""
    error = json.loads(ended.err)["error"]
    assert sorted(error) == ["code", "hint", "message"]
    assert error["code"] == code
    assert message in error["message"]
    assert hint in error["hint"]


def test_damage_ends_with_3(cli: Cli, small_home: Path, damage: Callable[..., Path]) -> None:
    damage("base/demo@v1", "payload.txt")
    ended = cli("art", "get", "base/demo", str(small_home / "copy"), "--json", rc=3)
    assert json.loads(ended.err)["error"] == {
        "code": "bad_data",
        "message": "base/demo@v1 is damaged: payload.txt does not have its sha256",
        "hint": "rebuild it: nanochat run PRESET --force second",
    }


@pytest.fixture
def ends_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes every command raise that."""

    def set_up(error: BaseException) -> None:
        def dispatch(arguments: list[str]) -> int:
            raise error

        monkeypatch.setattr("flows.cli._dispatch", dispatch)

    return set_up


def test_a_bug_is_one_line_that_names_the_way_to_more(
    cli: Cli, ends_with: Callable[[BaseException], None]
) -> None:
    ends_with(ZeroDivisionError("by zero\nin two lines"))
    assert cli("run", "tiny", rc=1).err == "error: ZeroDivisionError: by zero (--debug shows the traceback)\n"
    assert json.loads(cli("run", "tiny", "--json", rc=1).err)["error"]["code"] == "bug"


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), DataError("damaged")])
def test_debug_shows_the_traceback(error: Exception, ends_with: Callable[[BaseException], None]) -> None:
    ends_with(error)
    with pytest.raises(type(error)):
        main(["run", "tiny", "--debug"])


def test_debug_may_stand_anywhere_and_changes_nothing_else(cli: Cli) -> None:
    assert cli("--debug", "presets").out == cli("presets", "--debug").out == cli("presets").out


def test_an_interrupt_ends_with_130(cli: Cli, ends_with: Callable[[BaseException], None]) -> None:
    ends_with(KeyboardInterrupt())
    assert cli("run", "tiny", rc=130).err == ""


def test_an_error_without_a_hint_has_no_brackets(
    cli: Cli, ends_with: Callable[[BaseException], None]
) -> None:
    ends_with(DataError("damaged"))
    assert cli("art", "verify", rc=3).err == "error: damaged\n"


def test_a_reader_that_went_away_is_no_error(
    ends_with: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "pipe").open("w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        ends_with(BrokenPipeError())
        with pytest.raises(SystemExit) as end:
            main(["art", "ls"])
        print("what is left in the buffer", file=pipe)
    assert end.value.code == 0
    assert os.path.getsize(tmp_path / "pipe") == 0


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_the_overview_is_what_a_newcomer_sees(arguments: tuple[str, ...], cli: Cli) -> None:
    assert "Usage: nanochat COMMAND" in cli(*arguments).out
