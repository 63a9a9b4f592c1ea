"""Documented objects of a source file: names, signatures and arguments, without importing it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanochat.data.docstrings import Entry, parse_file

SOURCE = '''
"""The module says this about itself."""
raise SystemExit("imported!")

class Thing(Base):
    """A thing that can be used for testing."""
    def __init__(self, size, *, colour="red"): ...
    def grow(self, by=1, *rest, **more):
        """Make the thing grow by an amount."""
        def inner():
            """Hidden inside, and so not listed."""
    @property
    def width(self):
        """How wide the thing is, in metres."""
    @staticmethod
    def make(kind):
        """Make a thing out of nothing at all."""
    @classmethod
    def load(cls, path, /):
        """Load a thing from where it was saved."""

try:
    from fast import run
except ImportError:
    async def run(job: int, *, wait: float = 1.5) -> None:
        """Run the job, and wait for it to end."""

def short():
    """Too short."""
def bare(): ...
add_docstr(lib.abs, r"""abs(x) -> y

Computes the absolute value of each element. {input}
""".format(**common))
_add.add_newdoc("lib.core", "box", [("lid", """The lid of the box, if there is one."""), ("n", None)])
'''


@pytest.fixture
def entries(tmp_path: Path) -> dict[str, Entry]:
    file = tmp_path / "m.py"
    file.write_text(SOURCE)
    return {entry.name: entry for entry in parse_file(file, "pkg.m")}


def test_names_kinds_and_headings(entries: dict[str, Entry]) -> None:
    assert [(entry.kind, entry.heading) for entry in entries.values()] == [
        ("module", "pkg.m"),
        ("class", "pkg.m.Thing(size, *, colour='red')"),
        ("method", "pkg.m.Thing.grow(by=1, *rest, **more)"),
        ("property", "pkg.m.Thing.width"),
        ("method", "pkg.m.Thing.make(kind)"),
        ("method", "pkg.m.Thing.load(path)"),
        ("function", "pkg.m.run(job, *, wait=1.5)"),
        ("builtin", "lib.core.box.lid"),
    ]


def test_arguments(entries: dict[str, Entry]) -> None:
    assert entries["pkg.m.Thing"].arguments == ("size", "colour")
    assert entries["pkg.m.Thing.grow"].arguments == ("by", "rest", "more")
    assert entries["pkg.m.Thing.make"].arguments == ("kind",)
    assert entries["pkg.m.run"].arguments == ("job", "wait")


def test_docs_attached_to_compiled_functions(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    text = "Computes the absolute value of each element."
    file.write_text(f'add_docstr(lib.abs, r"""{text}\n{{input}}\n""".format(**common))')
    assert [(entry.name, entry.text) for entry in parse_file(file, "m")] == [("lib.abs", text)]


def test_a_long_signature_loses_its_defaults(tmp_path: Path) -> None:
    arguments = ", ".join(f"argument_number_{n}='value'" for n in range(9))
    file = tmp_path / "m.py"
    file.write_text(f'def f({arguments}):\n    """Does something with many arguments."""\n')
    assert "'value'" not in parse_file(file, "m")[0].heading


@pytest.mark.parametrize("source", [b'print \'Python 2 """ documentation\'', b'\xff\xfe"""', b"", b"x = 1"])
def test_what_is_not_documented_python_is_empty(tmp_path: Path, source: bytes) -> None:
    file = tmp_path / "m.py"
    file.write_bytes(source)
    assert parse_file(file, "m") == []


def test_help_topics(tmp_path: Path) -> None:
    file = tmp_path / "topics.py"
    file.write_text("topics = {'with': 'The with statement\\n**************\\n\\nIt wraps a block of code.'}")
    (entry,) = parse_file(file, "pydoc_data.topics")
    assert entry.heading == "Help on with"
    assert "It wraps a block of code." in entry.text


def test_posixpath_goes_by_its_public_name(tmp_path: Path) -> None:
    file = tmp_path / "posixpath.py"
    file.write_text('def join(a, *p):\n    """Join two or more pathname components."""\n')
    assert parse_file(file, "posixpath")[0].heading == "os.path.join(a, *p)"
