"""``nanochat doctor``: what is missing is said with what to do, and the exit code says whether it matters."""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from artifacts.manifest import Hardware
from flows.cli import doctor

Cli = Callable[..., Any]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _a_good_machine(small_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(0, 0, 5 * 10**9))
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: object())
    monkeypatch.setattr(doctor, "hardware", lambda: Hardware(cpu="a cpu", cores=2))
    monkeypatch.setattr(doctor, "prefect_server_is_configured", lambda: False)


def checks(cli: Cli, *arguments: str, rc: int = 0) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(cli("doctor", "--json", *arguments, rc=rc).out)}


def test_on_a_good_machine_all_is_well_and_nothing_is_to_do(cli: Cli) -> None:
    found = checks(cli)
    assert {name for name, check in found.items() if not check["ok"]} == set()
    assert {name for name, check in found.items() if check["hint"]} == set()
    assert found["cpu"]["found"] == "a cpu, 2 usable cores"
    assert found["gpu"]["found"] == "none: everything runs on the CPU"
    assert found["store"]["found"].endswith("store, 3 artifacts")
    assert "PROBLEM" not in cli("doctor").out


def test_a_missing_package_is_a_problem_with_its_remedy(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "pyarrow":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    found = checks(cli, rc=1)
    assert {name for name, check in found.items() if not check["ok"]} == {"pyarrow", "rustbpe"}
    assert found["pyarrow"]["hint"] == "make setup installs it"
    assert found["rustbpe"]["hint"] == "make setup builds it"
    assert cli("doctor", rc=1).out.count("PROBLEM") == 2


@pytest.mark.parametrize(
    ("free", "writable", "hint"),
    [(10**9, True, "free some space"), (10**10, False, "make it writable"), (10**10, True, "")],
)
def test_a_full_or_read_only_home_is_a_problem(
    free: int, writable: bool, hint: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(0, 0, free))
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: writable)
    home = checks(cli, rc=1 if hint else 0)["home"]
    assert home["ok"] is (hint == "")
    assert home["hint"].startswith(hint)


def test_before_the_first_run_no_store_is_no_problem(cli: Cli, tmp_path: Path) -> None:
    store = checks(cli, "--store", str(tmp_path / "absent" / "store"))["store"]
    assert (store["ok"], store["hint"]) == (True, "the first run makes it")
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("record", "said"), [('{"schema": 99}', "has store schema 99"), ("{", "store.json is damaged")]
)
def test_a_store_that_cannot_be_used_is_a_problem(record: str, said: str, cli: Cli, small_home: Path) -> None:
    (small_home / "store" / "store.json").chmod(0o644)
    (small_home / "store" / "store.json").write_text(record)
    store = checks(cli, rc=1)["store"]
    assert said in store["found"]
    assert store["hint"]


def test_a_prefect_server_is_named_if_there_is_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks(cli)["prefect server"]["found"] == "none: runs use an embedded one"
    monkeypatch.setattr(doctor, "prefect_server_is_configured", lambda: True)
    assert checks(cli)["prefect server"]["found"] == "configured"
