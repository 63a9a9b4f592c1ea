from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.errors import ResourceError, UsageError
from artifacts.opening import open_place


def test_a_store_starts_once_and_says_its_schema(tmp_path: Path, snapshot: Callable) -> None:
    folder = tmp_path / "new" / "store"
    open_place(str(folder))
    before = snapshot(folder)
    assert json.loads((folder / "store.json").read_text())["schema"] == 1
    open_place(f"file://{folder}", create=False)
    assert snapshot(folder) == before


def test_the_default_is_under_the_home(tmp_path: Path) -> None:
    open_place()
    assert (tmp_path / "home" / "store" / "store.json").is_file()


def test_the_environment_names_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_STORE", str(tmp_path / "other"))
    assert Path(open_place().url).name == "other"
    assert Path(open_place(str(tmp_path / "third")).url).name == "third"
    monkeypatch.setenv("NANOCHAT_STORE", "")
    assert Path(open_place().url) == tmp_path / "home" / "store"


def test_a_newer_store_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"schema": 2}')
    with pytest.raises(ResourceError, match="schema 2") as error:
        open_place(str(tmp_path))
    assert "upgrade" in error.value.hint
    assert "\n" not in str(error.value)


def test_other_folders_and_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="is not a store"):
        open_place(str(tmp_path / "absent"), create=False)
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="holds other files"):
        open_place(str(tmp_path))
    with pytest.raises(ResourceError, match="a part of the path is a file"):
        open_place(str(tmp_path / "thesis.txt" / "store"))
    with pytest.raises(UsageError, match="scheme"):
        open_place("gopher://x")
    for url in ("s3://", "s3:///prefix", "s3://bucket/a/../b", "s3://me:secret@bucket", "s3://bucket?x=1"):
        with pytest.raises(UsageError) as error:
            open_place(url)
        assert "secret" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.txt"]
