"""What only the local backend promises; what every backend does is in tests/contract/test_backends.py."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import resource
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifacts.backends.local import LocalBackend
from artifacts.errors import DataError, NanochatError, ResourceError, UsageError

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "root")


def in_child(action: Callable[[], object]) -> NanochatError | None:
    """The error that the action raises in a process of its own."""

    def run(pipe) -> None:
        try:
            action()
        except NanochatError as error:
            pipe.send(error)
        else:
            pipe.send(None)

    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=run, args=(theirs,))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def test_opening_and_reading_make_no_folder(backend: LocalBackend) -> None:
    assert backend.get("a/b") is None
    assert backend.info("a/b") is None
    assert list(backend.list("a/")) == []
    assert not backend.delete("a/b")
    assert not backend.root.exists()


def test_leftovers_of_killed_writers_are_not_objects(backend: LocalBackend) -> None:
    backend.put("a/b", b"x")
    (backend.root / "a" / ".tmp-123-dead").write_bytes(b"torn")
    assert [info.key for info in backend.list("a/")] == ["a/b"]
    (left,) = backend.leftovers()
    assert (left.key, left.size) == ("a/.tmp-123-dead", 4)
    backend.delete_leftover(left.key)
    assert list(backend.leftovers()) == []
    with pytest.raises(AssertionError):
        backend.delete_leftover("a/b")


def test_a_symbolic_link_is_not_followed(backend: LocalBackend, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    backend.put("a", b"x")
    (backend.root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="symbolic link"):
        backend.get("link")


def test_what_a_linked_folder_holds_is_not_listed(backend: LocalBackend, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b").write_text("secret")
    (tmp_path / "elsewhere" / ".tmp-1").write_text("torn")
    backend.put("a/b", b"x")
    (backend.root / "a" / "folder").symlink_to(tmp_path / "elsewhere")
    (backend.root / "a" / "file").symlink_to(tmp_path / "elsewhere" / "b")
    (backend.root / "a" / "loop").symlink_to("loop")
    assert [info.key for info in backend.list("")] == [
        "a/b",
        "a/file",
        "a/loop",
    ]  # reading these says why not
    assert list(backend.leftovers()) == []


def test_what_no_key_names_is_not_listed(backend: LocalBackend) -> None:
    backend.put("a/b", b"x")
    for name in (".hidden/b", "a/~", "a/b c", "a/c./d"):
        (backend.root / name).parent.mkdir(exist_ok=True)
        (backend.root / name).write_bytes(b"")
    assert [info.key for info in backend.list("")] == ["a/b"]


def test_what_vanishes_while_it_is_listed_is_left_out(
    backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("a/b", "a/gone", "gone/c"):
        backend.put(key, b"x")
    real = os.scandir

    @contextmanager
    def scandir_then_remove(folder: str) -> Iterator[list[os.DirEntry[str]]]:
        with real(folder) as entries:
            found = list(entries)
        for path in Path(folder).glob("gone"):
            path.rename(tmp_path / uuid.uuid4().hex)
        yield found

    monkeypatch.setattr(os, "scandir", scandir_then_remove)
    assert [info.key for info in backend.list("")] == ["a/b"]


def test_a_folder_that_may_not_be_listed_is_no_empty_one(backend: LocalBackend) -> None:
    backend.put("a/b", b"x")
    backend.put("file", b"x")
    with pytest.raises(ResourceError, match="a part of the path is a file"):
        list(backend.list("file/"))

    def list_as_someone() -> None:
        (backend.root / "a").chmod(0)
        if os.geteuid() == 0:
            os.setuid(65534)
        list(backend.list("a/"))

    try:
        error = in_child(list_as_someone)
        assert isinstance(error, ResourceError)
        assert "a: permission denied" in error.message
    finally:
        (backend.root / "a").chmod(0o700)


def test_uploads_are_read_only_files(backend: LocalBackend, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"")
    backend.upload(
        "a", tmp_path / "source", sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    path = backend.local_path("a")
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EPERM])
def test_where_no_link_is_possible_a_finished_file_is_copied(
    backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    source = tmp_path / "source"
    source.write_bytes(b"1")
    monkeypatch.setattr("os.link", refuse)
    backend.upload("a", source, sha256=hashlib.sha256(b"1").hexdigest(), hashed=source.stat())
    assert backend.get("a") == b"1"
    assert source.stat().st_nlink == 1
    assert os.listdir(backend.root) == ["a"]


def test_no_space_is_one_line_and_leaves_nothing(backend: LocalBackend) -> None:
    backend.put("small", b"old")

    def write_much() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        backend.put("small", b"x" * 100_000)

    error = in_child(write_much)
    assert isinstance(error, ResourceError)
    assert "larger than this process may write" in error.message
    assert backend.get("small") == b"old"
    assert [path.name for path in backend.root.iterdir()] == ["small"]


def test_no_permission_is_one_line(backend: LocalBackend) -> None:
    backend.put("a/b", b"old")
    (backend.root / "a").chmod(0o500)

    def write_as_someone() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        backend.put("a/b", b"new")

    def read_as_someone() -> None:
        (backend.root / "a").chmod(0)
        if os.geteuid() == 0:
            os.setuid(65534)
        backend.get("a/b")

    try:
        for action in (write_as_someone, read_as_someone):
            error = in_child(action)
            assert isinstance(error, ResourceError)
            assert "permission denied" in error.message
            assert "\n" not in str(error)
    finally:
        (backend.root / "a").chmod(0o700)
    assert backend.get("a/b") == b"old"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_failing_disk_is_never_an_absent_object(
    code: int, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(ResourceError):
            backend.get("a")


@pytest.mark.parametrize("url", ["file://host/x", "file:x", "ftp://x/y", "://x"])
def test_odd_addresses_are_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from artifacts.backends import open_backend

    monkeypatch.chdir(tmp_path)
    if "://" not in url:
        assert open_backend(url).url == str(tmp_path / url)  # a relative folder with an odd name
        return
    with pytest.raises(UsageError):
        open_backend(url)
