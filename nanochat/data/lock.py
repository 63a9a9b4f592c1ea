"""Lock file in, installed runtime packages out: which distributions the default corpus is made of.

The corpus is decided by ``requirements.lock`` alone (markers applied), so the same lock, platform and
Python patch release give the same text. What is installed must agree with it to the version.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from artifacts.errors import DataError, ResourceError, UsageError

LOCK = Path(__file__).parents[2] / "requirements.lock"
STDLIB = "python"  # the name under which the standard library stands in manifests


@dataclass(frozen=True)
class Selection:
    """What a corpus is made of: standard-library modules (None = all) and distributions by version."""

    stdlib: frozenset[str] | None
    packages: dict[str, str]

    def identity(self) -> dict[str, object]:
        """Names and versions, enough to tell one corpus from another without parsing anything."""
        return {
            "python": platform.python_version(),
            "platform": f"{sys.platform}-{platform.machine()}",
            "packages": dict(self.packages),
        }


def read_lock(path: Path = LOCK) -> dict[str, str]:
    """Canonical name -> version of every distribution of the lock that this platform needs, sorted."""
    if not path.is_file():
        raise ResourceError(f"no lock file {path.name} beside the project", "run from a checkout of it")
    pins: dict[str, str] = {}
    for requirement in _requirements(path):
        if requirement.marker is None or requirement.marker.evaluate():
            specifier = str(requirement.specifier)
            if not specifier.startswith("=="):
                raise DataError(f"{path.name}: {requirement} is not pinned", "run: make lock")
            pins[canonicalize_name(requirement.name)] = specifier.removeprefix("==")
    return dict(sorted(pins.items()))


def _requirements(path: Path) -> Iterator[Requirement]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line[0].isspace() and not line.startswith(("#", "-")):
            yield Requirement(line.removesuffix("\\").strip())


def select(names: list[str] | None, lock: Path = LOCK) -> Selection:
    """The corpus for a ``packages`` filter; None means the whole lock and the whole standard library.

    Raises UsageError for a name that is neither locked nor a standard-library module, ResourceError
    for a locked package that is missing here or installed in another version.
    """
    pins = read_lock(lock)
    if names is None:
        stdlib, wanted = None, pins
    else:
        canonical = {name: canonicalize_name(name) for name in names}
        wanted = {canonical[name]: pins[canonical[name]] for name in names if canonical[name] in pins}
        modules = [name for name in names if canonical[name] not in pins]
        for name in modules:
            if name not in sys.stdlib_module_names:
                raise UsageError(f"package {name!r} is neither in {lock.name} nor a standard-library module")
        stdlib = frozenset(modules)
    for name, pinned in wanted.items():
        _check_installed(name, pinned)
    return Selection(stdlib, dict(sorted(wanted.items())))


def _check_installed(name: str, pinned: str) -> None:
    try:
        installed = version(name)
    except PackageNotFoundError:
        raise ResourceError(f"locked package {name}=={pinned} is not installed", "run: make setup") from None
    if installed != pinned:
        raise ResourceError(f"package {name} is {installed}, the lock says {pinned}", "run: make setup")


def package_files(name: str) -> list[tuple[str, Path]]:
    """(path inside site-packages, file) of every Python source that distribution ``name`` installed."""
    files = distribution(name).files
    if files is None:
        raise ResourceError(f"package {name} has no list of installed files", "run: make setup")
    return sorted((str(file), Path(str(file.locate()))) for file in files if file.suffix == ".py")
