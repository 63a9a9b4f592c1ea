"""The default corpus: the documentation that every installation already holds, as documents.

A document is a stretch of one package's objects in source order: a heading with the qualified name and
signature, then what the docstring says, so that names repeat and a model learns to copy them.
"""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nanochat.data.docstrings import Entry, parse_file
from nanochat.data.lock import STDLIB, Selection, package_files

DOCUMENT_CHARS = 2400  # a document is closed when it is at least this long
MIN_DOCUMENT_CHARS = 200
FILES_PER_JOB = 48
MIN_PARALLEL_JOBS = 8  # below it a second process takes longer to start than it saves
_TESTS = frozenset({"test", "tests", "testing", "conftest", "turtledemo", "__phello__"})
_COPIES = frozenset({"vendor", "_vendor", "vendored", "_vendored", "extern", "externals", "_distutils"})


@dataclass(frozen=True)
class Document:
    """A text of the corpus and the objects that are documented in it."""

    text: str
    entries: tuple[Entry, ...] = ()

    @property
    def sha256(self) -> str:
        """Digest of the text, the identity of a document everywhere."""
        return hashlib.sha256(self.text.encode()).hexdigest()


Job = tuple[str, list[tuple[Path, str]]]  # package, files with their module names


def documents(selection: Selection, workers: int) -> Iterator[Document]:
    """The corpus in a stable order, each docstring once; ``workers`` processes parse."""
    jobs = list(_jobs(selection))
    seen: set[bytes] = set()
    package, pending = "", list[Entry]()
    for (name, _), entries in zip(jobs, _parsed(jobs, workers), strict=True):
        if name != package:
            yield from _last(pending)
            package, pending = name, []
        for entry in entries:
            key = hashlib.blake2b(" ".join(entry.text.split()).encode(), digest_size=16).digest()
            if key not in seen:
                seen.add(key)
                pending.append(entry)
        *complete, pending = _split(pending)
        yield from (_document(group) for group in complete)
    yield from _last(pending)


def _jobs(selection: Selection) -> Iterator[Job]:
    sources = [(STDLIB, _stdlib_files(selection.stdlib))]
    sources += [(name, package_files(name)) for name in selection.packages]
    for name, files in sources:
        modules = iter([(path, module) for inside, path in files if (module := _module_name(inside))])
        while batch := list(islice(modules, FILES_PER_JOB)):
            yield name, batch


def _stdlib_files(modules: frozenset[str] | None) -> list[tuple[str, Path]]:
    root = Path(sysconfig.get_path("stdlib"))
    names = sys.stdlib_module_names if modules is None else modules
    files: list[Path] = []
    for name in names:
        single = root / f"{name}.py"
        files += [single] if single.is_file() else sorted((root / name).rglob("*.py"))
    return sorted((path.relative_to(root).as_posix(), path) for path in files)


def _module_name(inside: str) -> str:
    """Dotted module name of a path inside an installation; empty for what is not documentation."""
    parts = inside.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    wanted = all(part.isidentifier() and part not in _TESTS | _COPIES for part in parts)
    tests = any(part.startswith("test_") or part.endswith(("_test", "_tests")) for part in parts)
    return ".".join(parts) if parts and wanted and not tests else ""


def _parsed(jobs: list[Job], workers: int) -> Iterator[list[Entry]]:
    """Entries of each job, in the order of the jobs whatever finishes first."""
    if workers == 1 or len(jobs) < MIN_PARALLEL_JOBS:
        yield from map(_parse_job, jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    # Syntax trees have no cycles: the collector only costs time, a third of the whole.
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=gc.disable) as pool:
        yield from pool.map(_parse_job, jobs)


def _parse_job(job: Job) -> list[Entry]:
    _, files = job
    return [entry for path, module in files for entry in parse_file(path, module)]


def _last(entries: list[Entry]) -> Iterator[Document]:
    document = _document(entries)
    if len(document.text) >= MIN_DOCUMENT_CHARS:
        yield document


def _split(entries: list[Entry]) -> list[list[Entry]]:
    """Groups of about one document each; the last one may still grow (and may be empty)."""
    groups: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        groups[-1].append(entry)
        size += len(entry.heading) + len(entry.text)
        if size >= DOCUMENT_CHARS:
            groups.append([])
            size = 0
    return groups


def _document(entries: list[Entry]) -> Document:
    return Document("\n\n".join(f"{entry.heading}\n\n{entry.text}" for entry in entries), tuple(entries))
