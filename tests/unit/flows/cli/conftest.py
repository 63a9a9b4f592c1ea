"""A real tokenizer: as a folder, and as artifacts of a store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.adopt import adopt
from flows.cli.tok import train

TEXT = """\
What is 37 + 45? Let me see: the answer is 82. You are helpful, and I'm the assistant, as they say.
A tokenizer learns the most frequent pairs first, then pairs of pairs, and so on.
"""


@pytest.fixture(scope="session")
def tokenizer_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ``nanochat tok train`` wrote: 300 ids."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    train(folder / "text.txt", vocab_size=300, output=folder / "made")
    return folder / "made"


@pytest.fixture
def tokenizer_folder(
    tokenizer_made: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of it; there is no store, and tiktoken has nothing in its cache."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    return Path(shutil.copytree(tokenizer_made, tmp_path / "tokenizer"))


@pytest.fixture
def tokenizer_store(tokenizer_folder: Path) -> Any:
    """The store of NANOCHAT_HOME, which holds tokenizer/real@v1."""
    from artifacts.store import Store

    store = Store.open()
    adopt(store, "tokenizer/real", tokenizer_folder)
    return store


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``type_in(b"text")``: what stdin holds; with ``terminal=True`` it says that it is one."""
    import io
    import sys

    def put(data: bytes, *, terminal: bool = False) -> None:
        stdin = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
        if terminal:
            stdin.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdin", stdin)

    return put
