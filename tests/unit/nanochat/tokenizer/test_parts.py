"""Each part as a value for programs and as tables for people, which say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanochat.tokenizer.comparison import Comparison, compare
from nanochat.tokenizer.inspection import Compression
from nanochat.tokenizer.parts import (
    chat_part,
    comparison_part,
    special_part,
    text_part,
    vocabulary_part,
)
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]}


@pytest.fixture(autouse=True)
def _no_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))


def test_every_part_is_json_under_its_key(tokenizer: Tokenizer) -> None:
    parts = [
        text_part(tokenizer, "naïve 🤖"), chat_part(tokenizer, [CHAT, CHAT]), special_part(tokenizer),
        vocabulary_part(tokenizer), comparison_part(compare({"ours": tokenizer.encode}, {"a": "a"})),
    ]  # fmt: skip
    assert [part.key for part in parts] == ["text", "chat", "special", "vocab", "comparison"]
    for part in parts:
        json.dumps(part.value, allow_nan=False)
        assert part.views or part.tables
        for table in part.tables:
            assert {len(row) for row in table.rows} == {len(table.columns)}
    assert len(parts[1].views) == len(parts[1].value) == 2


def test_special_tokens(tokenizer: Tokenizer) -> None:
    part = special_part(tokenizer)
    assert [value["token"] for value in part.value] == list(SPECIAL_TOKENS)
    assert [(row[0], row[1]) for row in part.tables[0].rows] == [
        (value["token"], str(value["id"])) for value in part.value
    ]


def test_a_comparison_says_what_is_absent_and_what_is_not_known(tokenizer: Tokenizer) -> None:
    texts = {"line\none": "line\none"}
    found = compare({"ours": tokenizer.encode}, texts).with_rows([Compression("ours", "val", 3000, 1000)])
    part = comparison_part(found)
    tokens = len(tokenizer.encode("line\none"))
    assert part.tables[0].rows == [
        ("ours", str(tokens), "8", "8", f"{tokens / 8:.3f}", f"{8 / tokens:.2f}", r"line\none"),
        ("ours", "1,000", "", "3,000", "0.333", "3.00", "val"),
    ]
    assert part.value["rows"][0]["characters"] == 8
    assert part.value["rows"][1]["characters"] is None
    assert part.value["rows"][1]["tokens_per_byte"] == 0.3333
    assert "gpt2, cl100k_base" in part.tables[0].note
    assert part.value["absent"] == ["gpt2", "cl100k_base"]
    assert comparison_part(Comparison({}, [], [])).tables[0].note == ""


def test_an_empty_text_has_no_ratio(tokenizer: Tokenizer) -> None:
    part = comparison_part(compare({"ours": tokenizer.encode}, {"": ""}))
    assert part.tables[0].rows[0][1:] == ("0", "0", "0", "0.000", "0.00", "")
