"""What every registered backend does. A new one is tested by adding it to ``PLACES`` in tests/conftest.py."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from artifacts.backends import Backend
from artifacts.errors import DataError, UsageError

pytestmark = pytest.mark.criterion("T40")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def race(count: int, action: Callable[[int], object]) -> list:
    """Run ``action(index)`` in threads that start together; their results by index."""
    barrier, results = threading.Barrier(count), [None] * count

    def run(index: int) -> None:
        barrier.wait()
        results[index] = action(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_what_is_put_is_got(backend: Backend) -> None:
    for data in (b"", b"x", b"\0\xff" * 100_000):
        backend.put("a/b.json", data)
        assert backend.get("a/b.json") == data
        info = backend.info("a/b.json")
        assert info is not None
        assert (info.key, info.size) == ("a/b.json", len(data))
        assert 0 <= info.age_s < 60


def test_many_objects_are_got_in_order(backend: Backend) -> None:
    objects = {f"many/{number}": str(number).encode() * number for number in range(40)}
    for key, data in objects.items():
        backend.put(key, data)
    keys = [*reversed(objects), "many/absent", "many/7", "many/7"]
    assert list(backend.get_many(keys)) == [objects.get(key) for key in keys]
    assert list(backend.get_many([])) == []


def test_an_absent_object_is_a_value(backend: Backend, tmp_path: Path) -> None:
    assert backend.get("a/b") is None
    assert backend.info("a/b") is None
    assert not backend.delete("a/b")
    assert not backend.touch("a/b")
    assert backend.download("a/b", tmp_path / "target") is None
    assert not (tmp_path / "target").exists()
    assert list(backend.list("a/")) == []


def test_put_new_creates_once(backend: Backend) -> None:
    assert backend.put_new("a", b"1")
    assert not backend.put_new("a", b"2")
    assert backend.get("a") == b"1"
    assert backend.delete("a")
    assert backend.put_new("a", b"3")


@pytest.mark.parametrize(
    ("stored", "expected", "swaps"),
    [(None, None, True), (None, b"1", False), (b"1", None, False), (b"1", b"1", True),
     (b"1", b"2", False), (b"", b"", True)],
)  # fmt: skip
def test_compare_and_swap(
    stored: bytes | None, expected: bytes | None, swaps: bool, backend: Backend
) -> None:
    if stored is not None:
        backend.put("a", stored)
    assert backend.compare_and_swap("a", expected, b"new") is swaps
    assert backend.get("a") == (b"new" if swaps else stored)


def test_list_is_sorted_and_by_folder(backend: Backend) -> None:
    for key in ("a/b/2", "a/b/10", "a/bc", "a/a", "ab/x", "z"):
        backend.put(key, key.encode())
    assert [info.key for info in backend.list("a/")] == ["a/a", "a/b/10", "a/b/2", "a/bc"]
    assert [info.key for info in backend.list("a/b/")] == ["a/b/10", "a/b/2"]
    assert all(info.size == len(info.key) and 0 <= info.age_s < 60 for info in backend.list("a/"))


def test_upload_and_download(backend: Backend, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    data = random.Random(0).randbytes(3_000_000)
    source.write_bytes(data)
    backend.upload("blobs/x", source, sha256=sha256(data))
    info = backend.info("blobs/x")
    assert info is not None
    assert info.size == len(data)
    assert backend.download("blobs/x", target) == sha256(data)
    assert target.read_bytes() == data
    assert target.stat().st_mode & 0o222 == 0
    source.write_bytes(b"other")
    backend.upload("blobs/x", source, sha256=sha256(b"other"))
    assert backend.get("blobs/x") == b"other"


def test_a_file_of_several_parts(backend: Backend, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    data = random.Random(1).randbytes(20_000_001)
    source.write_bytes(data)
    with pytest.raises(DataError):
        backend.upload("blobs/x", source, sha256=sha256(b"other"))
    assert backend.get("blobs/x") is None
    assert list(backend.leftovers()) == []
    backend.upload("blobs/x", source, sha256=sha256(data))
    assert backend.download("blobs/x", target) == sha256(data)
    assert sha256(target.read_bytes()) == sha256(data)


def test_memory_of_several_parts(backend: Backend) -> None:
    memory = bytearray(random.Random(2).randbytes(20_000_001))
    backend.put("blobs/x", memoryview(memory)[1:])
    kept = bytes(memory[1:])
    memory[:] = bytes(len(memory))
    assert backend.get("blobs/x") == kept
    assert list(backend.leftovers()) == []


def test_an_empty_file(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "source").touch()
    backend.upload("blobs/x", tmp_path / "source", sha256=sha256(b""))
    assert backend.download("blobs/x", tmp_path / "target") == sha256(b"")
    assert (tmp_path / "target").read_bytes() == b""


def test_upload_refuses_other_bytes_than_promised(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"data")
    with pytest.raises(DataError):
        backend.upload("blobs/x", tmp_path / "source", sha256=sha256(b"other"))
    assert backend.get("blobs/x") is None
    assert list(backend.leftovers()) == []


@pytest.mark.parametrize("size", [0, 4, 20_000_001])
def test_upload_tells_the_digest_of_what_it_read(backend: Backend, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    data = random.Random(size).randbytes(size)
    source.write_bytes(data)
    assert backend.upload("blobs/x", source) == sha256(data)
    assert backend.upload("blobs/y", source, sha256=sha256(data)) == sha256(data)
    assert backend.get("blobs/x") == backend.get("blobs/y") == data


def test_a_file_that_changes_while_it_is_read_is_refused(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data")
    times_ns, begin = count(), hashlib.sha256

    def change_and_begin(*data: bytes) -> Any:
        os.utime(source, ns=(0, next(times_ns)))
        return begin(*data)

    monkeypatch.setattr(hashlib, "sha256", change_and_begin)
    with pytest.raises(DataError, match="source changed while it was stored"):
        backend.upload("blobs/x", source)
    assert backend.get("blobs/x") is None
    assert list(backend.leftovers()) == []


@pytest.mark.parametrize("size", [0, 4, 20_000_001])
def test_a_finished_file_is_taken_as_it_was_hashed(backend: Backend, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    data = random.Random(size).randbytes(size)
    source.write_bytes(data)
    assert backend.upload("blobs/x", source, sha256=sha256(data), hashed=source.stat()) == sha256(data)
    assert backend.get("blobs/x") == data
    assert list(backend.leftovers()) == []


@pytest.mark.parametrize("size", [4, 20_000_001])
def test_a_finished_file_that_changed_is_refused(backend: Backend, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"1" * size)
    hashed = source.stat()
    source.write_bytes(b"2" * size)
    os.utime(source, ns=(0, hashed.st_mtime_ns + 1))
    with pytest.raises(DataError, match="source changed while it was stored"):
        backend.upload("blobs/x", source, sha256=sha256(b"1" * size), hashed=hashed)
    assert backend.get("blobs/x") is None
    assert list(backend.leftovers()) == []


def test_a_local_path_is_the_object(backend: Backend) -> None:
    backend.put("a/b", b"data")
    path = backend.local_path("a/b")
    assert path is None or path.read_bytes() == b"data"


def test_touch_sets_the_age_to_zero_and_keeps_the_bytes(backend: Backend) -> None:
    backend.put("a", b"1")
    time.sleep(2.1)  # S3 counts seconds
    before = backend.info("a")
    assert backend.touch("a")
    after = backend.info("a")
    assert before is not None
    assert after is not None
    assert 0 <= after.age_s <= 1 < before.age_s
    assert backend.get("a") == b"1"


@pytest.mark.criterion("T41")
def test_of_many_creators_one_wins(backend: Backend) -> None:
    def one_round(number: int) -> None:
        key = f"names/base/demo/v{number}.json"
        wins = race(8, lambda index: backend.put_new(key, b"%d" % index * 1000))
        assert wins.count(True) == 1
        assert backend.get(key) == b"%d" % wins.index(True) * 1000

    with ThreadPoolExecutor(10) as pool:  # SeaweedFS takes seconds to decide a race
        assert len(list(pool.map(one_round, range(50)))) == 50


def test_many_swaps_lose_no_update(backend: Backend) -> None:
    backend.put("counter", b"0")

    def increment(_: int) -> None:
        for _ in range(10):
            while True:
                old = backend.get("counter")
                assert old is not None
                if backend.compare_and_swap("counter", old, b"%d" % (int(old) + 1)):
                    break

    race(4, increment)
    assert backend.get("counter") == b"40"


def test_a_reader_never_sees_half_an_object(backend: Backend) -> None:
    versions = [bytes([letter]) * 200_000 for letter in b"ab"]
    backend.put("a", versions[0])
    torn: list[int] = []

    def work(index: int) -> None:
        for turn in range(30):
            if index == 0:
                backend.put("a", versions[turn % 2])
            elif backend.get("a") not in versions:
                torn.append(turn)

    race(3, work)
    assert torn == []


HOSTILE_KEYS = [
    "", "/", "..", "../x", "a/../../x", "a/..", "/etc/x", "a//b", "a/", "./a", "a\0b", "%2e%2e/x", "a\\..\\x",
    "C:\\x", "\u2024\u2024/x", "\uff0e\uff0e/x", "x" * 300, "a\n", ".hidden", "~root/x", "-rf", "a b",
]  # fmt: skip


@pytest.mark.criterion("T45")
@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_hostile_keys_are_refused(key: str, backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"")
    for use in (
        backend.get, backend.info, backend.delete, backend.touch, backend.local_path,
        lambda key: backend.put(key, b""), lambda key: backend.put_new(key, b""),
        lambda key: backend.compare_and_swap(key, None, b""),
        lambda key: backend.compare_and_swap(key, b"", b""),
        lambda key: backend.upload(key, tmp_path / "source", sha256=sha256(b"")),
        lambda key: backend.download(key, tmp_path / "target"),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            use(key)
