from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from artifacts import atomic
from artifacts.errors import DataError, ResourceError


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".tmp-*")]


def test_write_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    atomic.write_file(path, "old")
    atomic.write_file(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert leftovers(tmp_path) == []


def test_only_the_first_creator_wins(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert atomic.create_file_exclusive(path, "first")
    assert not atomic.create_file_exclusive(path, "second")
    assert path.read_text() == "first"
    assert leftovers(tmp_path) == []


def test_copy_refuses_other_bytes_than_promised(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"data")
    atomic.copy_file(source, target, sha256=hashlib.sha256(b"data").hexdigest(), mode=0o444)
    assert target.stat().st_mode & 0o777 == 0o444
    source.write_bytes(b"DATA")
    with pytest.raises(DataError, match="source changed"):
        atomic.copy_file(source, target, sha256=hashlib.sha256(b"data").hexdigest())
    assert target.read_bytes() == b"data"
    assert leftovers(tmp_path) == []


def test_a_folder_is_published_by_one_rename(tmp_path: Path) -> None:
    temporary, final = tmp_path / atomic.temporary_name(), tmp_path / "final"
    (temporary / "sub").mkdir(parents=True)
    (temporary / "sub" / "file").write_text("x")
    atomic.publish_directory(temporary, final)
    assert (final / "sub" / "file").read_text() == "x"
    assert not temporary.exists()


def test_a_published_folder_is_never_replaced(tmp_path: Path) -> None:
    temporary, final = tmp_path / "temporary", tmp_path / "final"
    temporary.mkdir()
    final.mkdir()
    (final / "old").write_text("x")
    with pytest.raises(FileExistsError):
        atomic.publish_directory(temporary, final)
    assert (final / "old").exists()


def test_everything_is_synced_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    for name in ("fsync", "replace", "rename", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, real=real, name=name, **k: (steps.append(name), real(*a, **k))[1]
        )
    atomic.write_file(tmp_path / "a", b"x")
    assert steps == ["fsync", "replace", "fsync"]
    steps.clear()
    atomic.create_file_exclusive(tmp_path / "b", b"x")
    assert steps == ["fsync", "link", "fsync"]
    steps.clear()
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "file").write_text("x")
    atomic.publish_directory(tmp_path / "t", tmp_path / "final")
    assert steps == ["fsync", "fsync", "rename", "fsync"]


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO, errno.EFBIG]
)
@pytest.mark.parametrize("call", ["fsync", "replace", "fchmod"])
def test_what_a_user_can_mend_is_one_line(
    code: int, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(ResourceError) as error:
            atomic.write_file(path, b"new")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_other_errors_are_our_bugs_and_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic.disk_errors(tmp_path):
        (tmp_path / "absent").read_bytes()


def test_a_file_system_without_hard_links_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(ResourceError, match="no hard links"):
        atomic.create_file_exclusive(tmp_path / "file", b"x")
    assert list(tmp_path.iterdir()) == []
