"""The project's own source, read once, for the tests that are about the code itself."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

PACKAGES = ("artifacts", "nanochat", "flows", "deployments")


@pytest.fixture(scope="session")
def sources(repository: Path) -> dict[str, ast.Module]:
    """Path relative to the root -> syntax tree, of every module of the product."""
    return {
        str(path.relative_to(repository)): ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((repository / package).rglob("*.py"))
    }


@pytest.fixture(scope="session")
def pyproject(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
