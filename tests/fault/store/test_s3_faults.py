"""A bucket that fails: the right answer or one clear error, few tries, and nothing twice."""

from __future__ import annotations

import hashlib
import random
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from artifacts.backends.s3 import S3Backend
from artifacts.backends.s3_transfer import RANGE_BYTES
from artifacts.errors import ResourceError
from artifacts.names import Names, Pointer

BUCKET = "nanochat-tests"
FAULTS = ("500 InternalError", "503 SlowDown", "503 ServiceUnavailable", "before", "after", "body")


@pytest.fixture
def backend(proxy: Any) -> S3Backend:
    """A backend behind the proxy that made sure of conditional writes already."""
    backend = S3Backend(BUCKET, uuid.uuid4().hex[:8])
    assert backend.put_new("first", b"")
    proxy.requests.clear()
    return backend


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.criterion("T43")
def test_fifty_cycles_on_a_server_that_fails_a_third_of_the_time(
    backend: S3Backend, proxy: Any, tmp_path: Path
) -> None:
    rng, lock, failed = random.Random(43), threading.Lock(), []

    def plan(method: str, path: str) -> str | None:
        with lock:
            return rng.choice(FAULTS) if rng.random() < 0.3 else None

    def cycle(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        data, key = random.Random(number).randbytes(100_000), f"c{number}/object"
        (folder / "source").write_bytes(data)
        steps: list[tuple[Callable[[], object], object]] = [
            (lambda: backend.put_new(key, b"1"), True),
            (lambda: backend.put_new(key, b"2"), False),
            (lambda: backend.get(key), b"1"),
            (lambda: backend.compare_and_swap(key, b"1", b"3"), True),
            (lambda: backend.compare_and_swap(key, b"1", b"4"), False),
            (lambda: backend.get(key), b"3"),
            (lambda: backend.upload(key, folder / "source"), sha256(data)),
            (lambda: backend.download(key, folder / "target"), sha256(data)),
            (lambda: (folder / "target").read_bytes() == data, True),
            (lambda: [info.key for info in backend.list(f"c{number}/")], [key]),
            (lambda: list(backend.get_many([key, f"{key}/none"])), [data, None]),
        ]
        for position, (step, expected) in enumerate(steps):
            try:
                assert step() == expected, f"cycle {number}, step {position}"
            except ResourceError as error:
                failed.append(str(error))
                return  # what follows would build on what may not have happened

    proxy.plan = plan
    with ThreadPoolExecutor(25) as pool:
        assert len(list(pool.map(cycle, range(50)))) == 50
    assert len(failed) < 10, failed


@pytest.mark.criterion("T43")
@pytest.mark.parametrize("fault", ["503 SlowDown", "before", "body"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda backend: backend.get("a"),
        lambda backend: list(backend.get_many(["a"])),
        lambda backend: list(backend.list("")),
    ],
    ids=["get", "get_many", "list"],
)
def test_five_tries_and_half_a_minute_at_most(
    backend: S3Backend, proxy: Any, ask: Callable[[S3Backend], object], fault: str
) -> None:
    backend.put("a", b"1" * 1000)
    proxy.requests.clear()
    proxy.plan = lambda method, path: fault
    start = time.monotonic()
    with pytest.raises(ResourceError, match=f"^s3://{BUCKET}/"):
        ask(backend)
    assert time.monotonic() - start < 30
    assert 2 <= len(proxy.requests) <= 5


@pytest.mark.criterion("T43")
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("404 NoSuchKey", None), ("403 AccessDenied", "access denied"), ("404 NoSuchBucket", "no such bucket")],
)
def test_an_answer_that_will_not_change_is_asked_for_once(
    backend: S3Backend, proxy: Any, fault: str, outcome: str | None
) -> None:
    proxy.plan = lambda method, path: fault
    if outcome is None:
        assert backend.get("a") is None
        assert list(backend.get_many(["a"])) == [None]
        proxy.requests.pop()
    else:
        with pytest.raises(ResourceError, match=outcome):
            backend.get("a")
    assert len(proxy.requests) == 1


@pytest.mark.criterion("T43")
@pytest.mark.parametrize("fault", ["503 SlowDown", "before", "after"])
def test_a_part_that_failed_is_sent_again_whole(backend: S3Backend, proxy: Any, fault: str) -> None:
    data, failed = random.Random(1).randbytes(20_000_001), set()

    def once(method: str, path: str) -> str | None:
        number = path.partition("partNumber=")[2].partition("&")[0]
        if not number or number in failed:
            return None
        failed.add(number)
        return fault

    proxy.plan = once
    backend.put("x", memoryview(data))
    assert failed == {"1", "2", "3"}
    assert backend.get("x") == data


@pytest.mark.criterion("T43")
@pytest.mark.parametrize("fault", ["409 ConditionalRequestConflict", "412 PreconditionFailed"])
def test_a_lost_write_is_not_repeated(backend: S3Backend, proxy: Any, fault: str) -> None:
    proxy.plan = lambda method, path: fault
    assert not backend.put_new("a", b"1")
    assert len(proxy.requests) == 1
    proxy.plan = lambda method, path: None
    backend.put("a", b"1")
    proxy.requests.clear()
    proxy.plan = lambda method, path: fault if method == "PUT" else None
    assert not backend.compare_and_swap("a", b"1", b"2")
    assert [method for method, _ in proxy.requests] == ["GET", "PUT"]


@pytest.mark.criterion("T43")
def test_a_write_whose_answer_is_lost_has_won(backend: S3Backend, proxy: Any) -> None:
    faults = iter(["after"])
    proxy.plan = lambda method, path: next(faults, None)
    assert backend.put_new("a", b"mine")
    assert backend.get("a") == b"mine"
    faults = iter([None, "after"])
    assert backend.compare_and_swap("a", b"mine", b"next")
    assert backend.get("a") == b"next"


@pytest.mark.criterion("T43")
def test_an_old_list_makes_no_version_twice(backend: S3Backend, proxy: Any) -> None:
    names, digests = Names(backend), ["1" * 64, "2" * 64, "3" * 64]
    proxy.plan = lambda method, path: "stale" if "list-type" in path else None
    made = [names.publish("base", "demo", Pointer("base", "f" * 64, digest)) for digest in digests]
    again = [names.publish("base", "demo", Pointer("base", "f" * 64, digest)) for digest in digests]
    assert [(ref.version, is_new) for ref, is_new in made] == [(1, True), (2, True), (3, True)]
    assert [(ref.version, is_new) for ref, is_new in again] == [(1, False), (2, False), (3, False)]


def test_a_killed_download_goes_on_where_it_stopped(
    backend: S3Backend, proxy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("artifacts.backends.s3_transfer.RANGE_BYTES", 100_000)
    monkeypatch.setattr("artifacts.backends.s3_transfer._AT_ONCE", 1)
    data = random.Random(0).randbytes(1_000_000)
    backend.put("x", data)
    ranges = iter([None, None, None, None, "403 AccessDenied"])  # as if it were killed after three parts
    proxy.plan = lambda method, path: next(ranges, "403 AccessDenied")
    with pytest.raises(ResourceError):
        backend.download("x", tmp_path / "target")
    proxy.plan = lambda method, path: None
    proxy.requests.clear()
    assert backend.download("x", tmp_path / "target") == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "target").read_bytes() == data
    assert [method for method, _ in proxy.requests] == ["HEAD"] + ["GET"] * 7
    assert not (tmp_path / "target.parts").exists()


@pytest.mark.criterion("T43")
def test_of_a_part_that_breaks_off_only_the_rest_is_fetched(
    backend: S3Backend, proxy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, starts = proxy._forward, []

    def noted(request: Any, body: bytes) -> Any:
        if asked := request.headers["Range"]:
            starts.append(int(asked.removeprefix("bytes=").partition("-")[0]))
        return forward(request, body)

    monkeypatch.setattr(proxy, "_forward", noted)
    data = random.Random(0).randbytes(3_000_000)
    backend.put("x", data)
    answers = iter([None, "body", "body", None])  # HEAD, then half of what was asked for, twice
    proxy.plan = lambda method, path: next(answers)
    assert backend.download("x", tmp_path / "target") == sha256(data)
    assert (tmp_path / "target").read_bytes() == data
    assert starts[0] == 0 < starts[1] < starts[2], starts
    proxy.plan = lambda method, path: "body" if method == "GET" else None
    proxy.requests.clear()
    with pytest.raises(ResourceError, match=f"^s3://{BUCKET}/"):
        backend.download("x", tmp_path / "again")
    assert 2 <= len(proxy.requests) <= 6


def test_what_another_object_left_is_not_mixed_in(backend: S3Backend, tmp_path: Path) -> None:
    backend.put("x", b"new")
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "target.parts").write_text(f'"other" 3 {RANGE_BYTES}\n0\n')
    assert backend.download("x", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"new"


@pytest.mark.parametrize("ignored", ["if-none-match", "if-match"])
def test_a_server_without_conditional_writes_is_refused(
    proxy: Any, monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    forward = proxy._forward

    def without_condition(request: Any, body: bytes) -> Any:
        del request.headers[ignored]
        return forward(request, body)

    monkeypatch.setattr(proxy, "_forward", without_condition)
    backend = S3Backend(BUCKET, uuid.uuid4().hex[:8])
    for write in (lambda: backend.put_new("a", b"1"), lambda: backend.compare_and_swap("a", None, b"1")):
        with pytest.raises(ResourceError, match=r"no conditional writes.*--allow-unsafe-store"):
            write()
    assert backend.get("a") is None
    assert list(backend.list("")) == []
    unsafe = S3Backend(BUCKET, uuid.uuid4().hex[:8], allow_unsafe=True)
    assert unsafe.put_new("a", b"1")
    assert not unsafe.put_new("a", b"2")
    assert unsafe.compare_and_swap("a", b"1", b"2")
    assert not unsafe.compare_and_swap("a", b"1", b"3")
    assert unsafe.get("a") == b"2"
