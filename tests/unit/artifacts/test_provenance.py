from __future__ import annotations

import os
import platform
import socket
import subprocess
from pathlib import Path

import pytest

from artifacts.provenance import collect


def git(folder: Path, *arguments: str) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env={**os.environ, **identity},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "code.py").write_text("x = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_commit_and_uncommitted_changes(project: Path) -> None:
    clean = collect(project)
    assert clean.commit == git(project, "rev-parse", "HEAD")
    assert clean.dirty is None
    (project / "code.py").write_text("x = 2\n")
    edited = collect(project).dirty
    (project / "new.py").write_text("y = 1\n")
    added = collect(project).dirty
    (project / "new.py").write_text("y = 2\n")
    changed = collect(project).dirty
    assert len({None, edited, added, changed}) == 4
    assert collect(project).dirty == changed


def test_outside_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    provenance = collect(tmp_path)
    assert (provenance.commit, provenance.dirty) == (None, None)


@pytest.mark.criterion("T90")
def test_neither_host_nor_paths_nor_secrets(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "canary-in-environment")
    command = [
        f"{project}/bin/nanochat",
        "run",
        "--set",
        "hub.token=canary-in-argument",
        "--store",
        str(project),
    ]
    text = collect(project, command=command, settings={"log": "canary-in-environment"}).model_dump_json()
    assert "canary" not in text
    assert str(project.parent) not in text
    assert str(Path.home()) not in text
    if len(socket.gethostname()) > 3:
        assert socket.gethostname() not in text


def test_versions_and_hardware_are_there(project: Path) -> None:
    provenance = collect(project, settings={"threads": 2})
    assert provenance.versions["python"] == platform.python_version()
    assert {"torch", "pydantic"} <= provenance.versions.keys()
    assert provenance.hardware.cpu
    assert provenance.hardware.cores >= 1
    assert provenance.settings == {"threads": 2}
