"""Downloaded blobs: fetched once, mended, and removed when they and what links to them are not used."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from artifacts import cache as module
from artifacts import layout
from artifacts.backends.memory import MemoryBackend
from artifacts.cache import BlobCache
from artifacts.errors import UsageError


def put(backend: MemoryBackend, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    backend.put(layout.blob(sha256), data)
    return sha256


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path / "blobs", tmp_path / "views", limit_bytes=250)


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_blob_is_downloaded_once(cache: BlobCache) -> None:
    backend = MemoryBackend()
    sha256 = put(backend, b"data")
    for came in (sha256, None, None):
        assert cache.fetch(backend, sha256) == (cache.folder / sha256, came)
        assert (cache.folder / sha256).read_bytes() == b"data"
    assert backend.calls["download"] == 1
    assert [item.name for item in cache.folder.iterdir()] == [sha256]


def test_many_at_once_download_it_once(cache: BlobCache) -> None:
    backend = MemoryBackend()
    sha256 = put(backend, b"data")
    threads = [threading.Thread(target=cache.fetch, args=(backend, sha256)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.calls["download"] == 1


def test_what_the_store_lacks_is_none(cache: BlobCache) -> None:
    assert cache.fetch(MemoryBackend(), "0" * 64) == (None, None)


def test_a_dropped_blob_is_downloaded_again(cache: BlobCache) -> None:
    backend = MemoryBackend()
    sha256 = put(backend, b"data")
    cache.fetch(backend, sha256)
    cache.drop(sha256)
    assert cache.fetch(backend, sha256) == (cache.folder / sha256, sha256)
    assert backend.calls["download"] == 2


def test_the_least_recently_used_go_until_the_limit_holds(cache: BlobCache) -> None:
    backend = MemoryBackend()
    blobs = [put(backend, bytes([letter]) * 100) for letter in b"abcd"]
    for position, sha256 in enumerate(blobs):
        path, _ = cache.fetch(backend, sha256)
        assert path is not None
        age(path, 10 * module.BLOB_IN_USE_S - position)
    age(cache.folder / blobs[0], 2 * module.BLOB_IN_USE_S)  # used after the others
    cache.trim()
    assert {item.name for item in cache.folder.iterdir()} == {blobs[0], blobs[3]}


def test_a_view_keeps_its_blobs_until_it_is_not_used_either(cache: BlobCache, tmp_path: Path) -> None:
    backend = MemoryBackend()
    for name, letter in (("old", b"a"), ("new", b"b"), ("used", b"c")):
        sha256 = put(backend, letter * 100)
        path, view = cache.fetch(backend, sha256)[0], tmp_path / "views" / name
        assert path is not None
        view.mkdir(parents=True)
        os.link(path, view / "file")
        age(path, 10 * module.VIEW_IN_USE_S)
    for name, days in (("old", 9), ("new", 5), ("used", 0.5)):
        age(tmp_path / "views" / name, days * 24 * 3600)
    cache.trim()
    assert {item.name for item in (tmp_path / "views").iterdir()} == {"new", "used"}
    assert len(list(cache.folder.iterdir())) == 2


def test_what_was_just_fetched_stays_whatever_the_limit(tmp_path: Path) -> None:
    backend, cache = MemoryBackend(), BlobCache(tmp_path / "blobs", tmp_path / "views", limit_bytes=0)
    cache.fetch(backend, put(backend, b"data"))
    cache.trim()
    assert len(list(cache.folder.iterdir())) == 1


def test_the_limit_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_CACHE_GB", "lots")
    with pytest.raises(UsageError, match="NANOCHAT_CACHE_GB = 'lots' is no number"):
        BlobCache.default(tmp_path)
