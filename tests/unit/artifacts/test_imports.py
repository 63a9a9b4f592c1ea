from __future__ import annotations

import gc
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artifacts.errors import DataError
from artifacts.imports import _parse, dynamic_imports, import_closure, module_digest

TREE = {
    "app/__init__.py": "",
    "app/main.py": "import app.model.gpt, os\nfrom app import texts\nfrom app.lib import name\n",
    "app/texts.py": "def f():\n    from .deep.late import x\n",
    "app/deep/__init__.py": "",
    "app/deep/late.py": "from ..model import (gpt as g)\nfrom .. import side\n",
    "app/side.py": "import typing\nif typing.TYPE_CHECKING:\n import app.typed\nelse:\n import app.real\n",
    "app/typed.py": "", "app/real.py": "", "app/unused.py": "",
    "app/model/__init__.py": "from app.model.base import Base\n",
    "app/model/base.py": "import lib2.thing\n",
    "app/model/gpt.py": "import app.model\n",
    "app/lib.py": "name = 1\n",
    "lib2/__init__.py": "", "lib2/thing.py": "",
    "app/tasks/__init__.py": "",
    "app/tasks/registry.py": "from app.tasks import one, two\nfrom app.tasks.task import Task\n",
    "app/tasks/mixture.py": "import app.tasks.task\ndef load():\n    import app.tasks.one, app.tasks.two\n",
    "app/tasks/one.py": "from app.tasks.task import Task\nfrom app.tasks.words import w\n",
    "app/tasks/two.py": "", "app/tasks/task.py": "", "app/tasks/words.py": "",
    "app/usesregistry.py": "def run():\n    from app.tasks.registry import Task\n",
    "app/usesmixture.py": "def run():\n    from app.tasks.mixture import load\n",
    "app/broken.py": "import app.nowhere\n",
}  # fmt: skip


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    for path, text in TREE.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return {"app": tmp_path / "app", "lib2": tmp_path / "lib2"}


def test_the_closure_is_exactly_what_may_run(roots: dict[str, Path]) -> None:
    assert list(import_closure("app.main", roots)) == [
        "app", "app.deep", "app.deep.late", "app.lib", "app.main", "app.model", "app.model.base",
        "app.model.gpt", "app.real", "app.side", "app.texts", "lib2", "lib2.thing",
    ]  # fmt: skip


def test_packages_outside_the_roots_are_not_followed(roots: dict[str, Path]) -> None:
    closure = import_closure("app.main", {"app": roots["app"]})
    assert "app.model.base" in closure
    assert not any(name.startswith("lib2") for name in closure)


@pytest.mark.parametrize("program", ["app.usesregistry", "app.usesmixture"])
def test_only_the_chosen_submodules_are_followed(program: str, roots: dict[str, Path]) -> None:
    def tasks(chosen: set[str] | None) -> set[str]:
        closure = import_closure(program, roots, None if chosen is None else {"app.tasks": chosen})
        used = {name.removeprefix("app.tasks.") for name in closure if name.startswith("app.tasks.")}
        return used - {"registry", "mixture"}

    assert tasks(None) == {"one", "two", "task", "words"}
    assert tasks({"one"}) == {"one", "task", "words"}  # what a chosen one imports is followed too
    assert tasks({"two", "task"}) == {"two", "task"}
    with pytest.raises(DataError, match=r"app\.tasks\.missing"):
        tasks({"missing"})


def test_an_import_that_leads_nowhere_is_an_error(roots: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"app\.nowhere"):
        import_closure("app.broken", roots)
    with pytest.raises(DataError, match=r"app\.absent"):
        import_closure("app.absent", roots)
    with pytest.raises(DataError, match="other"):
        import_closure("other.module", roots)


SOURCE = '''"""Module."""
import math

class A:
    """Doc."""
    size: int = 1
    """Attribute doc."""

    def f(self, x):
        """Doc."""
        return x + math.pi  # comment
'''


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ('"""Doc."""', '"""Other."""', True),
        ('"""Attribute doc."""', "", True),
        ("# comment", "", True),
        ("    def f", "\n\n\n    def f", True),
        ("x + math.pi", "(x + math.pi)", True),
        ("x + math.pi", "x - math.pi", False),
        ("size: int = 1", "size: int = 2", False),
        ("def f(self, x)", "def f(self, x, y=None)", False),
        ("import math", "import math as m", False),
    ],
)
def test_comments_and_docstrings_are_no_code(old: str, new: str, is_same: bool, tmp_path: Path) -> None:
    before, after = tmp_path / "before.py", tmp_path / "after.py"
    before.write_text(SOURCE)
    after.write_text(SOURCE.replace(old, new))
    assert before.read_text() != after.read_text()
    assert (module_digest(before) == module_digest(after)) is is_same


def test_the_digest_of_a_source_is_fixed(tmp_path: Path) -> None:
    """It must not change with the version of Python or of this program, or every cache is lost."""
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    assert module_digest(path) == "26390a9b8c41a149a22f942d461a501bb854d363d10f46bcd200a158ca275ab1"


def test_dynamic_imports_are_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import importlib\nimportlib.import_module('x')\n__import__('y')\nprint('importlib')\n")
    assert dynamic_imports(path) == ["2: import_module", "3: __import__"]


def test_the_store_itself_has_none(repository: Path) -> None:
    assert [path for path in (repository / "artifacts").rglob("*.py") if dynamic_imports(path)] == []


def test_broken_python_is_named(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("def f(:\n")
    with pytest.raises(DataError, match=r"module\.py: line 1"):
        module_digest(path)


class _Lingering:
    """Garbage whose end lets another thread run, wherever the collector happens to come."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        time.sleep(0)


def test_two_threads_may_read_programs_at_once(repository: Path, request: pytest.FixtureRequest) -> None:
    """Without a lock, the parser of CPython 3.11 fails about once in 400 times here."""
    source = (repository / "artifacts" / "imports.py").read_bytes()
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    request.addfinalizer(lambda: (gc.set_threshold(*thresholds), sys.setswitchinterval(interval)))
    gc.set_threshold(50)
    sys.setswitchinterval(1e-6)

    def read(_: int) -> int:
        _Lingering()
        return len(_parse(source).body)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(read, range(600)))) == 1
