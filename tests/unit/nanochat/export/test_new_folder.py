"""An exported folder is there whole or not at all, and nothing is written over."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from artifacts.errors import ResourceError, UsageError
from nanochat.export.new_folder import new_folder


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_it_appears_when_it_is_finished(there: bool, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    if there:
        target.mkdir(parents=True)
    with new_folder(target) as folder:
        (folder / "file").write_text("x")
        assert not (target / "file").exists()
    assert (target / "file").read_text() == "x"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_nothing_is_left_of_an_unfinished_one(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_folder(tmp_path / "target") as folder:
        raise KeyError((folder / "file").write_text("x"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught, new_folder(tmp_path / "target"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value) == (
        f"{tmp_path / 'target'}: no space left on the device (free some space and run it again)"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "full", "link"])
def test_what_is_there_stays(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("mine")
    elif kind == "full":
        target.mkdir()
        (target / "mine").touch()
    else:
        target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="exists"), new_folder(target):
        pytest.fail("it was opened")
    assert kind != "file" or target.read_text() == "mine"


def test_nor_what_came_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "target"

    def fill() -> None:
        with new_folder(target) as folder:
            (folder / "file").touch()
            target.mkdir()
            (target / "mine").touch()

    with pytest.raises(UsageError, match="meanwhile"):
        fill()
    assert [path.name for path in target.iterdir()] == ["mine"]
