"""Set-up: what is missing is named in one line, and only what changed is done again."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

LOCK = """torch==2.11.0 \\
    --hash=sha256:aa
uv==0.13.9 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
zlib==1 \\
    --hash=sha256:dd
"""


@pytest.fixture
def checkout(tmp_path: Path, repository: Path) -> Path:
    """A small checkout with the real script in it."""
    (tmp_path / "rustbpe" / "src").mkdir(parents=True)
    (tmp_path / "rustbpe" / "src" / "lib.rs").write_text("// the crate")
    (tmp_path / "pyproject.toml").write_text("[project]")
    (tmp_path / "requirements-dev.lock").write_text(LOCK)
    (tmp_path / "deployments").mkdir()
    shutil.copy(repository / "deployments" / "setup_venv.py", tmp_path / "deployments")
    return tmp_path


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the script ran."""
    return []


@pytest.fixture
def setup(checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module whose commands are recorded; maturin leaves a wheel, venv an interpreter."""
    spec = importlib.util.spec_from_file_location(
        "setup_venv_copy", checkout / "deployments" / "setup_venv.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*words: str | Path, **options: object) -> None:
        commands.append(" ".join(str(word).replace(f"{checkout}/", "") for word in words))
        made = module.VENV_PYTHON if "-m venv" in commands[-1] else checkout / "rustbpe/target/wheels/one.whl"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.touch()

    monkeypatch.setattr(module, "_run", run)
    monkeypatch.setattr(sys, "argv", ["setup_venv.py"])
    return module


def kinds(commands: list[str]) -> list[str]:
    """The commands since the last look, each by the word that tells it."""
    words = ("venv --clear", "uv.lock", "sync", "database", "--editable", "maturin", ".whl")
    seen = [next(word for word in words if word in command) for command in commands]
    commands.clear()
    return seen


EVERYTHING = ["venv --clear", "uv.lock", "sync", "database", "--editable", "maturin", ".whl"]


def test_a_second_run_does_nothing(setup: ModuleType, commands: list[str]) -> None:
    assert setup.main() == 0
    assert kinds(commands) == EVERYTHING
    assert setup.main() == 0
    assert commands == []


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ("rustbpe/src/lib.rs", ["maturin", ".whl"]),
        ("pyproject.toml", ["--editable", "maturin", ".whl"]),
        ("requirements-dev.lock", ["uv.lock", "sync", "database", "--editable", "maturin", ".whl"]),
    ],
)
def test_a_change_costs_what_depends_on_it(
    changed: str, again: list[str], setup: ModuleType, checkout: Path, commands: list[str]
) -> None:
    setup.main()
    commands.clear()
    with (checkout / changed).open("a") as file:
        file.write("\n# changed\n")
    setup.main()
    assert kinds(commands) == again


def test_uv_is_installed_from_its_pin_alone(setup: ModuleType) -> None:
    setup.main()
    assert (setup.VENV / "uv.lock").read_text() == LOCK[LOCK.index("uv==") : LOCK.index("\nzlib")]


@pytest.mark.parametrize(("fails_at", "again"), [("sync", EVERYTHING), ("maturin", ["maturin", ".whl"])])
def test_a_failed_run_is_repeatable(
    fails_at: str, again: list[str], setup: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    working = setup._run

    def failing(*words: str | Path, **options: object) -> None:
        if any(fails_at in str(word) for word in words):
            raise subprocess.CalledProcessError(7, words)
        working(*words)

    monkeypatch.setattr(setup, "_run", failing)
    assert setup.main() == 7
    monkeypatch.setattr(setup, "_run", working)
    commands.clear()
    assert setup.main() == 0
    assert kinds(commands) == again


def test_what_is_missing_is_named_with_one_line_that_installs_it(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, script in {"cargo": "echo cargo 1.63.0", "git": "true", "apt-get": "true"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    script = checkout / "deployments" / "setup_venv.py"
    outcome = subprocess.run(
        [sys.executable, script], env={"PATH": str(tools)}, capture_output=True, text=True, check=False
    )
    first, remedy = outcome.stderr.strip().splitlines()
    assert outcome.returncode == 4
    assert first == "setup: missing: make, a C compiler (cc), cargo >= 1.85 (found 1.63). Install with:"
    assert "apt-get install -y make build-essential curl && curl" in remedy
    assert not (checkout / ".venv").exists()


def test_the_script_parses_on_an_old_python(repository: Path) -> None:
    """It must live long enough there to say that a newer one is needed."""
    source = (repository / "deployments" / "setup_venv.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))
