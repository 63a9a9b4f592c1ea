"""The compression table: our numbers always, those of others only from tiktoken's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanochat.tokenizer.inspection import (
    SAMPLES,
    Compression,
    compression_of,
    compression_of_peers,
    is_cached,
)
from nanochat.tokenizer.tokenizer import Tokenizer

# The names under which tiktoken caches these encodings.
CACHE_FILES = {
    "gpt2": ["6d1cbeee0f20b3d9449abfede4726ed8212e3aee", "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6"],
    "cl100k_base": ["9b5ad71b2ce5302211f9c61530b329a4922fc6a4"],
}


def test_a_row_a_text(tokenizer: Tokenizer) -> None:
    rows = compression_of(tokenizer, {**SAMPLES, "empty": ""})
    assert [row.text for row in rows] == ["news", "code", "maths", "korean", "empty"]
    news = rows[0]
    assert news.bytes == len(SAMPLES["news"].encode())
    assert news.tokens == len(tokenizer.encode(SAMPLES["news"]))
    assert news.bytes_per_token == news.bytes / news.tokens > 1
    assert rows[-1].bytes_per_token == 0


def test_as_a_dictionary() -> None:
    assert Compression("nanochat", "news", 10, 3).as_dict() == {
        "tokenizer": "nanochat", "text": "news", "bytes": 10, "tokens": 3, "bytes_per_token": 3.3333,
    }  # fmt: skip


@pytest.mark.parametrize("peer", CACHE_FILES)
def test_a_peer_is_at_hand_only_with_all_its_files(
    peer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    for name in CACHE_FILES[peer]:
        assert not is_cached(peer)
        (tmp_path / name).touch()
    assert is_cached(peer)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")  # tiktoken's way to say: no cache
    assert not is_cached(peer)


def test_peers_that_are_not_at_hand_are_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert compression_of_peers({"news": "text"}) == []
    assert not any(tmp_path.iterdir())
