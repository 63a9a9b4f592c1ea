"""Conversation files: what is accepted, and that every defect is named by file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from artifacts.errors import DataError, ResourceError
from nanochat.tasks.conversations import load_jsonl

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be kind."}
GOOD = json.dumps({"messages": [USER, ASSISTANT]})


def with_messages(*messages: object) -> str:
    return json.dumps({"messages": messages})


def test_plain_and_gzipped_files_with_blank_lines(tmp_path: Path) -> None:
    text = GOOD + "\n\n" + with_messages(SYSTEM, USER, ASSISTANT, USER, ASSISTANT | {"extra": 1}) + "\n"
    (tmp_path / "a.jsonl").write_text(text)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(text)
    loaded = load_jsonl(tmp_path / "a.jsonl")
    assert loaded == load_jsonl(tmp_path / "a.jsonl.gz")
    assert loaded[1] == {"messages": [SYSTEM, USER, ASSISTANT, USER, ASSISTANT]}


@pytest.mark.parametrize(
    "line",
    [
        "{", "[]", "3", "{}", '{"messages": 3}', '{"messages": [3]}', with_messages(), with_messages(USER),
        with_messages(ASSISTANT, USER), with_messages(USER, USER), with_messages(SYSTEM),
        with_messages(USER, ASSISTANT, SYSTEM, ASSISTANT), with_messages(USER, {"role": "assistant"}),
        with_messages(USER, {"role": "assistant", "content": " "}),
        with_messages({"role": "user", "content": [{"type": "text", "text": "a"}]}, ASSISTANT),
        with_messages(USER, {"role": "assistant", "content": [{"type": "image", "text": "a"}]}),
        with_messages(USER, {"role": "assistant", "content": []}),
        with_messages({"role": ["user"], "content": "a"}, ASSISTANT),
    ],
)  # fmt: skip
def test_defects_are_named_by_file_and_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.jsonl").write_text(GOOD + "\n" + line + "\n")
    with pytest.raises(DataError, match=r"bad\.jsonl:2"):
        load_jsonl(tmp_path / "bad.jsonl")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no such file"):
        load_jsonl(tmp_path / "none.jsonl")
    (tmp_path / "a.jsonl.gz").write_bytes(b"not gzip")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(GOOD.encode())[:-9])
    for name in ("a.jsonl.gz", "b.jsonl", "c.jsonl.gz"):
        with pytest.raises(DataError, match=name):
            load_jsonl(tmp_path / name)
