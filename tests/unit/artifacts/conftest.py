"""A store in a temporary folder, and small artifacts to put into it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from artifacts.backends import LocalBackend
from artifacts.commit import Published
from artifacts.manifest import Draft, Manifest, Parent
from artifacts.store import Store

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


class Factory:
    """Makes drafts and payload folders, and commits both."""

    def __init__(self, store: Store, folder: Path, draft: Callable[..., Draft]) -> None:
        self.store, self.draft = store, draft
        self._folder, self._count = folder, itertools.count()

    def files(self, files: dict[str, bytes]) -> Path:
        folder = self._folder / str(next(self._count))
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return folder

    def commit(
        self,
        files: dict[str, bytes] | None = None,
        *,
        stage: str = "base",
        config: dict[str, Any] | None = None,
        name: str | None = "demo",
        run: dict[str, bytes] | None = None,
        replace: bool = False,
        **fields: Any,
    ) -> Published:
        payload = self.files(files or {"model.bin": b"weights", "sub/config.json": b"{}"})
        run_folder = self.files(run or {"summary.json": b"{}"})
        draft = self.draft(stage, config, **fields)
        return self.store.commit(draft, payload, run_folder, name=name, replace_fingerprint=replace)


@pytest.fixture(autouse=True)
def _home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # only a power cut would miss it


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def root(store: Store) -> Path:
    """The folder of the store."""
    assert isinstance(store.backend, LocalBackend)
    return store.backend.root


@pytest.fixture
def make(store: Store, tmp_path: Path, draft: Callable[..., Draft]) -> Factory:
    return Factory(store, tmp_path / "payloads", draft)


@pytest.fixture
def parent_of() -> Callable[[Published, str], Parent]:
    def parent(published: Published, role: str) -> Parent:
        manifest: Manifest = published.manifest
        return Parent(role=role, ref=str(published.ref), digest=manifest.digest, manifest=manifest.hex)

    return parent


@pytest.fixture
def blob_of(root: Path) -> Callable[[Manifest, str], Path]:
    """The file in the store behind a path of an artifact."""

    def blob(manifest: Manifest, path: str) -> Path:
        sha256 = manifest.all_files()[path].sha256
        return root / "blobs" / "sha256" / sha256[:2] / sha256

    return blob


@pytest.fixture
def flip() -> Callable[..., None]:
    """Change one byte of a file in place."""

    def change(path: Path, offset: int = 0) -> None:
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[offset] ^= 1
        path.write_bytes(data)

    return change


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[int, int]]]:
    """Path -> (size, time of change) of every file under a folder: equal means nothing was written."""

    def take(folder: Path) -> dict[str, tuple[int, int]]:
        return {
            str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*"))
        }

    return take
