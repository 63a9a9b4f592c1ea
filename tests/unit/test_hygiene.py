"""General package names, and how this project lives with them; and the shape of its files."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc"}
LONGEST_FILE, LONGEST_FUNCTION = 500, 80
MEDIAN_FILE, MEDIAN_FUNCTION = 180, 12


@pytest.mark.parametrize("package", ["artifacts", "nanochat", "flows", "deployments"])
def test_each_package_is_ours_alone(package: str, repository: Path) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert Path(spec.origin or "").parent == repository / package
    assert set(importlib.metadata.packages_distributions()[package]) == {"nanochat-pipeline"}


def test_no_module_of_flows_or_deployments_shadows_the_standard_library(sources: dict) -> None:
    stems = {Path(path).stem: path for path in sources if path.startswith(("flows/", "deployments/"))}
    assert not stems.keys() & (sys.stdlib_module_names - {"__init__", "__main__"})


def test_prefect_loads_flows_by_module_not_by_file(repository: Path) -> None:
    entrypoints = re.findall(
        r"entrypoint:\s*(\S+)", (repository / "prefect.yaml").read_text(encoding="utf-8")
    )
    assert entrypoints
    assert [name for name in entrypoints if ".py:" in name] == []


def test_packages_are_listed_as_they_stand_in_the_tree(sources: dict, pyproject: dict) -> None:
    in_tree = {str(Path(path).parent).replace("/", ".") for path in sources}
    assert set(pyproject["tool"]["setuptools"]["packages"]) == in_tree
    assert all(f"{package.replace('.', '/')}/__init__.py" in sources for package in in_tree)


def test_artifacts_holds_code_only(repository: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "artifacts"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.split()
    assert tracked
    assert [path for path in tracked if Path(path).suffix not in {".py", ".typed", ".md"}] == []


def test_lock_files_name_no_host(repository: Path) -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (repository / lock).read_text(encoding="utf-8")
        assert "://" not in text
        assert len(re.findall(r"^[a-z0-9][\w.-]*==", text, re.MULTILINE)) == len(
            re.findall(r"^\S", text, re.MULTILINE)
        )


def test_no_module_has_a_vague_name(sources: dict) -> None:
    assert [path for path in sources if VAGUE_NAMES & set(Path(path).with_suffix("").parts)] == []


def test_every_module_says_what_it_is(sources: dict) -> None:
    assert [path for path, tree in sources.items() if tree.body and not ast.get_docstring(tree)] == []


def test_files_are_short(sources: dict, repository: Path) -> None:
    lines = {path: len((repository / path).read_text(encoding="utf-8").splitlines()) for path in sources}
    assert {path: count for path, count in lines.items() if count > LONGEST_FILE} == {}
    assert statistics.median(count for count in lines.values() if count > 1) <= MEDIAN_FILE


def test_functions_are_short(sources: dict) -> None:
    lengths = {
        f"{path}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path, tree in sources.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: count for name, count in lengths.items() if count > LONGEST_FUNCTION} == {}
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION


def test_unit_tests_mirror_the_code(repository: Path, sources: dict) -> None:
    """tests/unit/PACKAGE/…/test_NAME[_topic].py is about PACKAGE/…/NAME.py, the package NAME, or NAME.rs.

    In ``deployments`` it may also be about a file or folder that is no module.
    """
    modules = {path.removesuffix(".py").removesuffix("/__init__") for path in sources}
    modules |= {f"deployments/{path.stem.lower()}" for path in (repository / "deployments").iterdir()}
    modules |= {f"rustbpe/{path.stem}" for path in (repository / "rustbpe" / "src").glob("*.rs")}
    strays = []
    for test in (repository / "tests" / "unit").glob("*/**/test_*.py"):
        folder = test.parent.relative_to(repository / "tests" / "unit")
        words = test.stem.removeprefix("test_").split("_")
        names = ["_".join(words[:count]) for count in range(len(words), 0, -1)]
        if not any(f"{folder}/{name}" in modules for name in names):
            strays.append(str(test.relative_to(repository)))
    assert strays == []
