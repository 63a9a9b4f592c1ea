"""Several tokenizers over the same texts; peers only where tiktoken has them at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import DataError
from nanochat.tokenizer.comparison import compare
from nanochat.tokenizer.inspection import Compression
from nanochat.tokenizer.tokenizer import Tokenizer

GPT2_FILES = ["6d1cbeee0f20b3d9449abfede4726ed8212e3aee", "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tiktoken's, and empty."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_every_text_with_every_tokenizer(tokenizer: Tokenizer, cache: Path) -> None:
    found = compare(
        {"ours": tokenizer.encode, "bytes": lambda text: list(text.encode())}, {"é": "é", "b": "Qx"}
    )
    assert [(row.text, row.tokenizer, row.tokens, row.bytes) for row in found.rows] == [
        ("é", "ours", 2, 2), ("é", "bytes", 2, 2), ("b", "ours", 2, 2), ("b", "bytes", 2, 2),
    ]  # fmt: skip
    assert [found.characters(row) for row in found.rows] == [1, 1, 2, 2]
    assert list(found.absent) == ["gpt2", "cl100k_base"]
    assert list(cache.iterdir()) == []


def test_a_peer_at_hand_is_compared_too(
    tokenizer: Tokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiktoken.registry

    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "gpt2", tokenizer.to_tiktoken())  # as if it were loaded
    for name in GPT2_FILES:
        (cache / name).touch()
    found = compare({"ours": tokenizer.encode}, {"text": "the answer"})
    assert [row.tokenizer for row in found.rows] == ["ours", "gpt2"]
    assert found.rows[0].tokens == found.rows[1].tokens
    assert list(found.absent) == ["cl100k_base"]


def test_what_is_no_text_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"text 'a\\ud800' cannot be encoded: surrogates not allowed"):
        compare({"ours": tokenizer.encode}, {"x": "a\ud800"})


def test_rows_of_a_text_that_is_not_there(tokenizer: Tokenizer) -> None:
    recorded = Compression("ours", "val", 100, 30)
    found = compare({"ours": tokenizer.encode}, {"text": "x"}).with_rows([recorded])
    assert found.rows[-1] is recorded
    assert found.characters(recorded) is None
