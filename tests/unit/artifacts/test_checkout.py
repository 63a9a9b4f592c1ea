from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts import checkout as checkout_module
from artifacts.atomic import digest_into
from artifacts.errors import DataError
from artifacts.store import Store

FILES = {"model.bin": b"weights", "sub/config.json": b"{}"}


def contents(view: Path) -> dict[str, bytes]:
    return {
        path.relative_to(view).as_posix(): path.read_bytes() for path in view.rglob("*") if path.is_file()
    }


EXPECTED = {**FILES, "run/summary.json": b"{}"}


@pytest.fixture
def views(tmp_path: Path) -> Path:
    return tmp_path / "views"


def test_payload_at_the_root_and_run_beside_it(make, store: Store, views: Path, blob_of: Callable) -> None:
    manifest = make.commit(FILES).manifest
    view = store.checkout(manifest, views)
    assert contents(view) == EXPECTED
    assert (view / "model.bin").samefile(blob_of(manifest, "model.bin"))
    assert {path.stat().st_mode & 0o777 for path in view.rglob("*") if path.is_file()} == {0o444}
    assert store.checkout(manifest, views) == view
    assert [path.name for path in views.iterdir()] == [view.name]


def test_copies_where_links_are_impossible(
    make, store: Store, views: Path, monkeypatch, blob_of: Callable
) -> None:
    manifest = make.commit(FILES).manifest

    def fail(*_: object) -> None:
        raise OSError(18, "cross-device link")

    monkeypatch.setattr(os, "link", fail)
    view = store.checkout(manifest, views)
    assert contents(view) == EXPECTED
    assert not (view / "model.bin").samefile(blob_of(manifest, "model.bin"))
    assert (view / "model.bin").stat().st_mode & 0o777 == 0o444


def test_downloads_where_the_store_has_no_files(make, store: Store, views: Path, monkeypatch) -> None:
    manifest = make.commit(FILES).manifest
    monkeypatch.setattr(store.backend, "local_path", lambda key: None)
    assert contents(store.checkout(manifest, views)) == EXPECTED
    assert store.verify() == []


def test_a_folder_that_was_changed_is_mended(make, store: Store, views: Path) -> None:
    manifest = make.commit(FILES).manifest
    view = store.checkout(manifest, views)
    (view / "foreign.txt").write_text("x")
    (view / "empty").mkdir()
    (view / "link").symlink_to("/")
    (view / "sub" / "config.json").unlink()
    (view / "model.bin").unlink()
    (view / "model.bin").write_bytes(b"WEIGHTS")
    assert contents(store.checkout(manifest, views)) == EXPECTED
    assert sorted(path.name for path in view.iterdir()) == ["model.bin", "run", "sub"]


@pytest.mark.parametrize("already", [False, True])
@pytest.mark.parametrize("path", ["model.bin", "sub/config.json", "run/summary.json"])
def test_a_flipped_byte_is_refused_and_named(
    already: bool, path: str, make, store: Store, views: Path, blob_of: Callable, flip: Callable
) -> None:
    manifest = make.commit(FILES, run={"summary.json": b"[1]"}).manifest
    if already:
        store.checkout(manifest, views)
    flip(blob_of(manifest, path))
    with pytest.raises(DataError) as error:
        store.checkout(manifest, views)
    assert f"base/demo@v1 is damaged: {path}" in error.value.message
    assert "--force base" in error.value.hint
    assert not list(views.glob(".tmp-*"))


def test_a_missing_file_is_refused_and_named(make, store: Store, views: Path, blob_of: Callable) -> None:
    manifest = make.commit(FILES).manifest
    blob_of(manifest, "model.bin").unlink()
    with pytest.raises(DataError, match=r"model\.bin is missing"):
        store.checkout(manifest, views)


def test_after_a_rebuild_the_folder_is_right_again(
    make, store: Store, views: Path, blob_of: Callable, flip: Callable
) -> None:
    manifest = make.commit(FILES).manifest
    store.checkout(manifest, views)
    flip(blob_of(manifest, "model.bin"))
    again = make.commit(FILES, replace=True).manifest
    assert contents(store.checkout(again, views)) == EXPECTED


def test_a_verified_file_is_not_hashed_again(
    make, store: Store, views: Path, blob_of: Callable, monkeypatch
) -> None:
    manifest = make.commit(FILES).manifest
    an_hour_ago = time.time() - 3600
    for path in manifest.all_files():
        os.utime(blob_of(manifest, path), (an_hour_ago, an_hour_ago))
    store.checkout(manifest, views)
    hashed: list[Path] = []
    monkeypatch.setattr("artifacts.verified.digest_into", hashed.append)
    store.checkout(manifest, views)
    assert hashed == []


def test_each_file_of_a_new_folder_is_hashed_once(make, store: Store, views: Path, monkeypatch) -> None:
    manifest = make.commit(FILES).manifest  # just now, so nothing is remembered of its files
    hashed: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(digest_into(path))
        return hashed[-1]

    monkeypatch.setattr("artifacts.verified.digest_into", counted)
    assert contents(store.checkout(manifest, views)) == EXPECTED
    assert sorted(hashed) == sorted(entry.sha256 for entry in manifest.all_files().values())


def test_two_at_once_make_one_folder(make, store: Store, views: Path, monkeypatch) -> None:
    manifest = make.commit(FILES).manifest
    barrier, build = threading.Barrier(4), checkout_module._build
    monkeypatch.setattr(checkout_module, "_build", lambda *args: (barrier.wait(), build(*args)))
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(store.checkout(manifest, views))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert contents(found[0]) == EXPECTED
    assert [path.name for path in views.iterdir()] == [found[0].name]
