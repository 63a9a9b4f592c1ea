"""The lock decides the corpus: markers, versions, and what is said when the installation differs."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from artifacts.errors import DataError, ResourceError, UsageError
from nanochat.data.lock import LOCK, package_files, read_lock, select


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.lock"
    file.write_text(
        "# by a tool\n"
        f"Click=={version('click')} \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n    # via prefect\n"
        f"httpx=={version('httpx')} ; sys_platform == 'linux' or sys_platform != 'linux' \\\n    --hash=x\n"
        "pywin32==312 ; sys_platform == 'no-such-platform' \\\n    --hash=x\n"
    )
    return file


def test_markers_are_applied_and_names_are_canonical(lock: Path) -> None:
    assert read_lock(lock) == {"click": version("click"), "httpx": version("httpx")}


def test_this_projects_lock_is_runtime_only() -> None:
    names = set(read_lock(LOCK))
    assert {"torch", "numpy", "prefect"} <= names
    assert not names & {"pytest", "ruff", "hypothesis", "chitchat-dataset", "nanochat-pipeline"}


def test_everything_or_a_choice(lock: Path) -> None:
    assert select(None, lock).stdlib is None
    assert set(select(None, lock).packages) == {"click", "httpx"}
    chosen = select(["json", "Click"], lock)
    assert chosen.stdlib == {"json"}
    assert set(chosen.packages) == {"click"}
    assert chosen.identity()["packages"] == {"click": version("click")}


def test_an_unknown_name_is_refused(lock: Path) -> None:
    with pytest.raises(UsageError, match="'jsn' is neither"):
        select(["jsn"], lock)


@pytest.mark.parametrize(
    ("line", "message"),
    [("click==0.0.1", "click is .*, the lock says 0.0.1"), ("no-such==1", "no-such==1 is not installed")],
)
def test_an_installation_that_differs_is_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "requirements.lock").write_text(f"{line} \\\n    --hash=x\n")
    with pytest.raises(ResourceError, match=message) as caught:
        select(None, tmp_path / "requirements.lock")
    assert caught.value.hint == "run: make setup"


def test_an_unpinned_or_missing_lock_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no lock file"):
        read_lock(tmp_path / "requirements.lock")
    (tmp_path / "requirements.lock").write_text("click>=8\n")
    with pytest.raises(DataError, match="not pinned"):
        read_lock(tmp_path / "requirements.lock")


def test_package_files_are_sources_in_order() -> None:
    files = package_files("click")
    assert dict(files)["click/core.py"].is_file()
    assert [name for name, _ in files] == sorted(name for name, _ in files)
