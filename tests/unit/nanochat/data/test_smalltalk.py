"""Small talk: alternating turns, deterministic files, disjoint splits."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from nanochat.data import smalltalk
from nanochat.data.smalltalk import _alternating, smalltalk_version, write_smalltalk


def conversation(*messages: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [[{"sender": sender, "text": text}] for sender, text in messages]}


def test_consecutive_messages_of_one_speaker_are_joined() -> None:
    raw = conversation(("a", "Hi"), ("a", "there"), ("b", "Hello "), ("b", ""), ("a", "Well?"))
    assert _alternating(raw) == [
        {"role": "user", "content": "Hi there"},
        {"role": "assistant", "content": "Hello"},
    ]


@pytest.mark.parametrize("text", ["see http://x.y", "mail me: a@b.c", "x" * 601])
def test_unsuitable_conversations_are_left_out(text: str) -> None:
    assert _alternating(conversation(("a", "Hi"), ("b", text))) == []


def test_three_speakers_are_left_out() -> None:
    assert _alternating(conversation(("a", "1"), ("b", "2"), ("c", "3"), ("a", "4"))) == []


def test_nothing_is_written_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smalltalk, "PACKAGE", "no-such-package")
    assert smalltalk_version() is None
    assert write_smalltalk(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(smalltalk_version() is None, reason="the extra demo-data is not installed")
def test_the_installed_package(tmp_path: Path) -> None:
    splits: dict[str, list[str]] = {}
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        write_smalltalk(folder)
    for split in ("train", "test"):
        name = f"chat/chitchat.{split}.jsonl.gz"
        data = (tmp_path / "a" / name).read_bytes()
        assert data == (tmp_path / "b" / name).read_bytes()
        splits[split] = gzip.decompress(data).decode().splitlines()
        roles = [message["role"] for message in json.loads(splits[split][0])["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
    assert len(splits["train"]) > 2000
    assert not set(splits["train"]) & set(splits["test"])
