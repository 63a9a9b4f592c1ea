"""Which project modules a program consists of, read from syntax trees; nothing is imported.

Function-level imports, ``from package import submodule``, relative imports and the ``__init__`` of
every package on the way are followed. Blocks under ``if TYPE_CHECKING`` never run and are not.
"""

from __future__ import annotations

import ast
import hashlib
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from artifacts.errors import DataError

REGISTRY = "registry"
# CPython 3.11 counts the depth of all threads' parsers together, and fails when two of them meet.
_PARSER = threading.Lock()
_DYNAMIC_CALLS = {"__import__", "import_module", "run_module", "run_path", "spec_from_file_location"}


def import_closure(
    module: str, roots: Mapping[str, Path], only: Mapping[str, Collection[str]] | None = None
) -> dict[str, Path]:
    """Every module that ``module`` imports, itself included: dotted name -> file, sorted.

    ``roots``: top-level package -> its folder; other packages are not followed.
    ``only``: package -> submodules that the program uses. What the package imports from itself inside
    functions, and what its ``__init__`` and ``registry`` import, is followed for these alone; an
    import that always runs is followed in any case.
    Raises DataError for an import from a root that is no module there.
    """
    chosen = {package: {REGISTRY, *names} for package, names in (only or {}).items()}
    found: dict[str, Path] = {}
    if module.partition(".")[0] not in roots:
        raise DataError(f"module {module} is in none of {', '.join(roots)}", "name one of the project")
    pending = _with_parents(module)
    while pending:
        name = pending.pop()
        if name in found or name.partition(".")[0] not in roots:
            continue
        path = _find(name, roots)
        if path is None:
            raise DataError(f"module {name} does not exist", "mend the import")
        found[name] = path
        for imported, is_lazy in _imports(name, path, roots):
            if not _left_out(name, imported, is_lazy, chosen):
                pending += _with_parents(imported)
    for package, names in chosen.items():
        for missing in sorted(f"{package}.{item}" for item in names - {REGISTRY} if package in found):
            if missing not in found and _find(missing, roots) is None:
                raise DataError(f"module {missing} does not exist", f"choose submodules of {package}")
    return dict(sorted(found.items()))


def dynamic_imports(path: Path) -> list[str]:
    """``line: call`` for each import that a syntax tree cannot follow (importlib, ``__import__``, runpy)."""
    hits = []
    for node in ast.walk(_parse(path.read_bytes())):
        name = _call_name(node)
        if name in _DYNAMIC_CALLS:
            hits.append(f"{node.lineno}: {name}")  # type: ignore[attr-defined]
    return hits


def module_digest(path: Path) -> str:
    """sha256 of a module's syntax tree without comments, docstrings and positions.

    Empty fields are left out, so that the same source has one digest in every Python version.
    """
    return _module(path).digest


@dataclass(frozen=True)
class _Module:
    """``imports``: those that may run, and whether each is inside a function."""

    digest: str
    imports: list[tuple[ast.Import | ast.ImportFrom, bool]]


def _module(path: Path) -> _Module:
    try:
        return _read(path.read_bytes())
    except SyntaxError as error:
        raise DataError(f"{path}: line {error.lineno} is not Python", "mend the syntax") from error


@lru_cache(maxsize=4096)
def _read(source: bytes) -> _Module:
    """Once for all the stages that share a module."""
    tree = _parse(source)
    imports: list[tuple[ast.Import | ast.ImportFrom, bool]] = []
    _collect_imports(tree.body, False, imports)
    return _Module(hashlib.sha256(repr(_shape(tree)).encode()).hexdigest(), imports)


def _parse(source: bytes) -> ast.Module:
    with _PARSER:
        return ast.parse(source)


def _shape(node: Any) -> Any:
    if isinstance(node, ast.AST):
        values = ((name, getattr(node, name, None)) for name in sorted(node._fields))
        fields = [(name, _shape(value)) for name, value in values if value not in (None, [])]
        return (type(node).__name__, *fields)
    if isinstance(node, list):
        return [_shape(item) for item in node if not _is_docstring(item)]
    return node


def _is_docstring(node: Any) -> bool:
    """A string that stands alone as a statement: it has no effect wherever it is."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _call_name(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else None


def _find(name: str, roots: Mapping[str, Path]) -> Path | None:
    top, *rest = name.split(".")
    base = roots[top].joinpath(*rest)
    module = base.with_name(base.name + ".py")
    for candidate in (base / "__init__.py", module) if rest else (base / "__init__.py",):
        if candidate.is_file():
            return candidate
    return None


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _left_out(importer: str, imported: str, is_lazy: bool, chosen: Mapping[str, Collection[str]]) -> bool:
    for package, names in chosen.items():
        inside = f"{package}."
        is_choice = importer in (package, inside + REGISTRY) or (is_lazy and importer.startswith(inside))
        if is_choice and imported.startswith(inside):
            return imported.removeprefix(inside).partition(".")[0] not in names
    return False


def _imports(name: str, path: Path, roots: Mapping[str, Path]) -> Iterator[tuple[str, bool]]:
    """(dotted name, is it inside a function) of each import of a module under ``roots``."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node, is_lazy in _module(path).imports:
        found: Iterable[str]
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.partition(".")[0] in roots]
        else:
            found = _imports_from(node, package, roots)
        yield from ((imported, is_lazy) for imported in found)


def _imports_from(node: ast.ImportFrom, package: str, roots: Mapping[str, Path]) -> Iterator[str]:
    base = node.module or ""
    if node.level:
        parts = package.split(".")
        base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
    if base.partition(".")[0] not in roots:
        return
    yield base
    for alias in node.names:
        submodule = f"{base}.{alias.name}"
        if alias.name != "*" and _find(submodule, roots) is not None:
            yield submodule


def _collect_imports(
    nodes: Iterable[ast.AST], is_lazy: bool, found: list[tuple[ast.Import | ast.ImportFrom, bool]]
) -> None:
    """Add those of ``nodes`` and below that may run; no expression holds a statement."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append((node, is_lazy))
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            _collect_imports(node.orelse, is_lazy, found)
        elif not isinstance(node, ast.expr):
            inside = is_lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            _collect_imports(ast.iter_child_nodes(node), inside, found)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else None
    return name == "TYPE_CHECKING"
