"""What may import what, and when: layers, and nothing heavy before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAVY = ("torch", "pyarrow", "prefect", "matplotlib", "scipy", "pandas", "fastapi")
DYNAMIC = {"importlib", "importlib.util", "import_module", "__import__", "runpy", "pkgutil"}


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def dynamic_imports(tree: ast.AST) -> list[str]:
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in DYNAMIC]
    return names + [name for name in imported(tree) if name in DYNAMIC]


def test_layers_point_down_only(repository: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    outcome = subprocess.run(
        [linter, "--no-cache"], cwd=repository, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize(
    ("package", "strangers"),
    [("nanochat", {"prefect", "flows"}), ("artifacts", {"prefect", "torch", "nanochat"})],
)
def test_a_package_never_imports_its_strangers(package: str, strangers: set[str], sources: dict) -> None:
    guilty = [
        (path, name)
        for path, tree in sources.items()
        if path.startswith(f"{package}/")
        for name in imported(tree)
        if name.split(".")[0] in strangers
    ]
    assert guilty == []


def test_the_library_has_no_dynamic_import(sources: dict) -> None:
    """Fingerprints follow imports statically; what they cannot see would never invalidate a cache."""
    found = {path: dynamic_imports(tree) for path, tree in sources.items() if path.startswith("nanochat/")}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "code", ["import importlib", "from importlib import import_module", "__import__('x')"]
)
def test_a_dynamic_import_is_seen(code: str) -> None:
    assert dynamic_imports(ast.parse(code))


def stage_modules(repository: Path) -> list[str]:
    files = (repository / "nanochat" / "stages").glob("[a-z]*.py")
    return sorted(f"nanochat.stages.{path.stem}" for path in files)


def test_stages_load_without_heavy_packages(repository: Path) -> None:
    """The command line reads every stage's config; `nanochat --help` must answer at once."""
    names = stage_modules(repository)
    assert names
    program = f"import sys, {', '.join(names)}; print(*sorted(set(sys.modules) & {set(HEAVY)!r}))"
    outcome = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert outcome.stdout.split() == []
