"""What is shown is what is there: to the byte, also where a token holds a part of a character."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import DataError
from nanochat.tokenizer.chat import render_conversation
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.tokenizer.training import train_on_texts
from nanochat.tokenizer.view import (
    TextView,
    TokenView,
    runs,
    shortened,
    view_conversation,
    view_text,
    visible,
)

CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "37 + 45 🤖?"},
        {"role": "assistant", "content": [
            {"type": "python", "text": "37+45"}, {"type": "python_output", "text": "82"},
            {"type": "text", "text": "It is 82."},
        ]},
        {"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "Yes"},
    ]
}  # fmt: skip


@pytest.fixture(scope="session")
def cutting() -> Tokenizer:
    """A tokenizer whose merges cut characters, such as the whole 🤖 and the first three bytes of another."""
    return train_on_texts(["🤖🤡🤢🤣" * 9 + " naïveïté" * 9], 280)


def bytes_of(shown: str) -> bytes:
    """What ``visible`` was given."""
    one = r"\\\\|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|\\[tnr]|[^\\]"
    parts = re.findall(one, shown, re.DOTALL)
    assert "".join(parts) == shown
    return b"".join(
        bytes([int(part[2:], 16)])
        if part[:2] == r"\x"
        else (part.encode().decode("unicode_escape") if part[0] == "\\" else part).encode()
        for part in parts
    )


def test_bytes_joined_are_the_text(tokenizer: Tokenizer, cutting: Tokenizer) -> None:
    @settings(max_examples=300, deadline=None)
    @given(st.one_of(st.text(), st.text(alphabet="🤖🤡ïé navt\n")))
    def check(text: str) -> None:
        for one in (tokenizer, cutting):
            view = view_text(one, text)
            assert b"".join(token.data for token in view.tokens) == view.data == text.encode()
            assert view.round_trip
            assert [token.id for token in view.tokens] == one.encode(text)
            assert [token.index for token in view.tokens] == list(range(len(view.tokens)))
            assert all(token.part_of in text for token in view.tokens)
            assert all(token.part_of for token in view.tokens if token.text is None)

    check()


@given(st.binary())
def test_what_is_visible_hides_nothing_and_controls_no_terminal(data: bytes) -> None:
    shown = visible(data, space=" ")
    assert shown.isprintable()
    assert bytes_of(shown) == data
    assert visible(data).replace("␣", " ") == shown.replace("␣", " ")


@given(st.text())
def test_nor_does_it_hide_a_character(text: str) -> None:
    shown = visible(text.encode(), space=" ")
    assert shown.isprintable()
    assert bytes_of(shown) == text.encode()


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b" the", "␣the"), (b"\n\t\r\x1b\x7f", r"\n\t\r\x1b\x7f"), (b"\\n", r"\\n"),
        (b"\xf0\x9f", r"\xf0\x9f"), ("é\u00a0\u200b\U000e0001".encode(), r"é\u00a0\u200b\U000e0001"),
        (b"\xa0", r"\xa0"), (b"\x96\xf0\x9f\xa4\x96", r"\x96🤖"), (b"", ""),
    ],
)  # fmt: skip
def test_visible(data: bytes, shown: str) -> None:
    assert visible(data) == shown


def test_a_character_in_several_tokens(tokenizer: Tokenizer) -> None:
    view = view_text(tokenizer, "é🐍")
    assert [token.row()[3:] for token in view.tokens] == [
        ("c3", "single byte", r"\xc3   part of é"), ("a9", "single byte", r"\xa9   part of é"),
        ("f0", "single byte", r"\xf0   part of 🐍"), ("9f", "single byte", r"\x9f   part of 🐍"),
        ("90", "single byte", r"\x90   part of 🐍"), ("8d", "single byte", r"\x8d   part of 🐍"),
    ]  # fmt: skip
    assert [token.text for token in view.tokens] == [None] * 6


def test_a_token_with_a_character_and_a_part_of_one(cutting: Tokenizer) -> None:
    first, second, third = view_text(cutting, "🤖🤡🤢").tokens
    assert (first.data, first.kind, first.part_of) == (b"\xf0\x9f\xa4\x96\xf0\x9f\xa4", "partial", "🤖🤡")
    assert first.row()[3:] == ("f0 9f a4 96 f0 9f a4", "partial", r"🤖\xf0\x9f\xa4   part of 🤖🤡")
    assert (second.data, second.part_of) == (b"\xa1\xf0\x9f\xa4", "🤡🤢")
    assert (third.data, third.part_of, third.kind) == (b"\xa2", "🤢", "single byte")
    whole = view_text(cutting, "naïveïté").tokens[-1]
    assert (whole.text, whole.part_of, whole.kind) == ("veïté", "", "alphabetic")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ab", "alphabetic"), (" ab", "alphabetic"), ("日本", "alphabetic"), ("12", "numeric"),
        ("a1", "alphanumeric"), ("  ", "whitespace"), ("\n\n", "whitespace"), ("a.", "mixed"),
        (" +", "mixed"),
    ],
)  # fmt: skip
def test_classes_of_merged_tokens(text: str, kind: str) -> None:
    data = text.encode()
    merges = [data[: end + 1] for end in range(1, len(data))]
    tokenizer = Tokenizer((*(bytes([byte]) for byte in range(256)), *merges), pattern=r"(?s).+")
    (token,) = view_text(tokenizer, text).tokens
    assert token.kind == kind


def test_a_single_byte_is_one_whatever_it_spells(tokenizer: Tokenizer) -> None:
    assert {token.kind for token in view_text(tokenizer, "Q|7").tokens} == {"single byte"}


def test_statistics(tokenizer: Tokenizer) -> None:
    view = view_text(tokenizer, "naïve 🤖")
    tokens = len(tokenizer.encode("naïve 🤖"))
    assert view.statistics() == {
        "tokens": tokens, "characters": 7, "bytes": 11, "tokens_per_byte": tokens / 11,
        "characters_per_token": 7 / tokens,
    }  # fmt: skip
    assert view.facts() == [
        f"{tokens} tokens", "7 characters", "11 bytes", f"{tokens / 11:.3f} tokens/byte",
        f"{7 / tokens:.2f} characters/token",
    ]  # fmt: skip
    assert view_text(tokenizer, "").statistics() == dict.fromkeys(view.statistics(), 0)
    assert view_text(tokenizer, "Q").facts()[:3] == ["1 token", "1 character", "1 byte"]


def test_tokens_that_are_not_the_text_are_a_warning() -> None:
    view = TextView("ab", (TokenView(0, 97, b"a", "single byte", ""),))
    assert not view.round_trip
    assert view.facts()[-1].startswith("WARNING")
    assert not view.as_dict()["round_trip"]


def test_as_json(tokenizer: Tokenizer) -> None:
    found = view_text(tokenizer, "é").as_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["text"] == "é"
    assert found["tokens"] == [
        {"index": 0, "id": 0xC3, "text": None, "bytes": "c3", "class": "single byte", "part_of": "é"},
        {"index": 1, "id": 0xA9, "text": None, "bytes": "a9", "class": "single byte", "part_of": "é"},
    ]


def test_a_table_has_only_so_many_rows_and_cells_only_so_many_letters(tokenizer: Tokenizer) -> None:
    view = view_text(tokenizer, "x" * 2000)
    table = view.table(3)
    assert [row[0] for row in table.rows] == ["0", "1", "2"]
    assert table.note == f"The first 3 tokens; {len(view.tokens) - 3:,} more are not shown."
    assert view.table(len(view.tokens)).note == ""
    long = TokenView(0, 300, b"y" * 90, "alphabetic", "").row()
    assert long[2:] == ("90", "79 " * 12 + "…", "alphabetic", "y" * 32 + "…")
    assert shortened("x" * 33) == "x" * 33


def test_a_conversation_is_what_training_renders(tokenizer: Tokenizer) -> None:
    view = view_conversation(tokenizer, CHAT)
    ids, mask = render_conversation(tokenizer, CHAT)
    assert [token.id for token in view.tokens] == ids
    assert [token.trained for token in view.tokens] == [bool(trained) for trained in mask]
    assert view.trained == sum(mask)
    assert view.text == "Be brief.\n\n37 + 45 🤖?37+4582It is 82.ThanksYes"
    assert "round_trip" not in view.as_dict()
    assert view.facts()[-1] == f"{sum(mask)} trained ({sum(mask) / len(ids):.0%})"
    assert view.statistics()["trained_tokens"] == sum(mask)
    special = [token for token in view.tokens if token.kind == "special"]
    assert [token.name for token in special][:3] == ["<|bos|>", "<|user_start|>", "<|user_end|>"]
    assert {(token.data, token.text == token.name) for token in special} == {(b"", True)}
    assert view.table(9).columns[0] == "trained"
    assert {row[0] for row in view.table(999).rows} == {"", "yes"}


def test_a_run_of_tokens_is_a_turn_or_what_is_trained_in_it(tokenizer: Tokenizer) -> None:
    view = view_conversation(tokenizer, CHAT)
    found = [
        (run[0].trained, "".join(token.name or token.data.decode(errors="replace") for token in run)[:20])
        for run in runs(view.tokens)
    ]
    assert found == [
        (False, "<|bos|>"), (False, "<|user_start|>Be bri"), (False, "<|assistant_start|>"),
        (True, "<|python_start|>37+4"), (False, "<|output_start|>82<|"), (True, "It is 82.<|assistant"),
        (False, "<|user_start|>Thanks"), (False, "<|assistant_start|>"), (True, "Yes<|assistant_end|>"),
    ]  # fmt: skip
    assert [len(run) for run in runs(view_text(tokenizer, "Thanks").tokens)] == [
        len(tokenizer.encode("Thanks"))
    ]
    assert list(runs(())) == []


def test_typed_special_tokens_are_text(tokenizer: Tokenizer) -> None:
    assert all(token.kind != "special" for token in view_text(tokenizer, "<|bos|>").tokens)


def test_what_cannot_be_encoded_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="cannot be encoded"):
        view_text(tokenizer, "\ud800")
    with pytest.raises(DataError, match="message 0"):
        view_conversation(tokenizer, {"messages": [{"role": "assistant", "content": "x"}]})
