"""Folders anywhere: listing, identity without reading, copies, and no secret in an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from artifacts.errors import ResourceError, UsageError
from nanochat.data.folder import Folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "chat").mkdir(parents=True)
    (root / "chat" / "b.txt").write_text("two")
    (root / "a.txt").write_text("one")
    (root / ".hidden").write_text("no")
    return root


@pytest.fixture
def index_url(source: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(source)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_local_folder(source: Path, tmp_path: Path) -> None:
    folder = Folder(str(source))
    assert folder.files == ["a.txt", "chat/b.txt"]
    assert folder.copy("chat/b.txt", tmp_path / "new" / "b.txt").read_text() == "two"


def test_a_folder_behind_any_file_system(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/some/data/a.txt", b"one")
    folder = Folder("memory://some/data")
    assert folder.files == ["a.txt"]
    assert folder.copy("a.txt", tmp_path / "a.txt").read_text() == "one"


def test_a_folder_over_http_is_cached(
    index_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    folder = Folder(index_url)
    assert folder.is_http
    assert "chat/b.txt" in folder.files
    assert folder.copy("chat/b.txt", tmp_path / "b.txt").read_text() == "two"
    assert [path.read_text() for path in (tmp_path / "home").rglob("b.txt")] == ["two"]


def test_identity_changes_with_the_files_and_not_with_the_place(source: Path) -> None:
    before = Folder(str(source)).identity()
    moved = source.rename(source.with_name("elsewhere"))
    assert Folder(str(moved)).identity() == before
    (moved / "a.txt").write_text("other")
    changed = Folder(str(moved)).identity()
    assert changed != before
    (moved / "c.txt").write_text("new")
    assert Folder(str(moved)).identity() not in (before, changed)


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("", UsageError, "path is not set"),
        ("no-such-protocol://x", UsageError, "Protocol not known"),
        ("/no/such/folder", ResourceError, "nothing in it"),
        ("http://user:hunter22@127.0.0.1:9/x?token=hunter33", ResourceError, "cannot list|nothing in it"),
    ],
)
def test_what_cannot_be_listed(url: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        Folder(url).identity()
    assert "hunter" not in str(caught.value)


def test_a_file_is_not_a_folder(source: Path) -> None:
    with pytest.raises(UsageError, match="is a file"):
        Folder(str(source / "a.txt")).identity()
