from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from artifacts import verified as verified_module
from artifacts.verified import Verified

RIGHT = hashlib.sha256(b"data").hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    os.utime(path, (time.time() - 60, time.time() - 60))
    return path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that is read."""
    read: list[Path] = []
    real = verified_module.digest_into
    monkeypatch.setattr(verified_module, "digest_into", lambda path: (read.append(path), real(path))[1])
    return read


def test_what_was_right_is_remembered_across_processes(
    tmp_path: Path, file: Path, hashed: list[Path]
) -> None:
    memo = Verified(tmp_path / "memo.json")
    assert memo.matches(file, RIGHT)
    memo.save()
    assert Verified(tmp_path / "memo.json").matches(file, RIGHT)
    assert hashed == [file]
    assert (tmp_path / "memo.json").stat().st_mode & 0o777 == 0o600


def test_a_change_is_seen(tmp_path: Path, file: Path) -> None:
    memo = Verified(tmp_path / "memo.json")
    assert memo.matches(file, RIGHT)
    assert not memo.matches(file, "0" * 64)
    file.write_bytes(b"DATA")
    assert not memo.matches(file, RIGHT)


def test_a_file_changed_just_now_is_not_trusted(tmp_path: Path, file: Path, hashed: list[Path]) -> None:
    os.utime(file)
    memo = Verified(tmp_path / "memo.json")
    assert memo.matches(file, RIGHT)
    assert memo.matches(file, RIGHT)
    assert len(hashed) == 2
    memo.save()
    assert not (tmp_path / "memo.json").exists()


@pytest.mark.parametrize("text", ["", "torn{", "[]", '{"x": 1}'])
def test_a_damaged_memo_only_costs_time(text: str, tmp_path: Path, file: Path) -> None:
    (tmp_path / "memo.json").write_text(text)
    assert Verified(tmp_path / "memo.json").matches(file, RIGHT)
    assert not Verified(tmp_path / "memo.json").matches(file, "0" * 64)


def test_it_does_not_grow_without_end(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified_module, "MAX_ENTRIES", 1)
    other = tmp_path / "other"
    other.write_bytes(b"data")
    os.utime(other, (0, 0))
    memo = Verified(tmp_path / "memo.json")
    assert memo.matches(file, RIGHT)
    assert memo.matches(other, RIGHT)
    memo.save()
    assert (tmp_path / "memo.json").read_text().count(":[") == 1
