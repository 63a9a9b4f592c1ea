"""The exported tokenizer.json gives our ids, for any text, in ``tokenizers`` and in transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import rustbpe
from nanochat.export.chat_template import BORDER, BREAK
from nanochat.export.hf_tokenizer import merge_pairs, tokenizer_document, write_hf_tokenizer
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, SPLIT_PATTERN, Tokenizer

NASTY = [
    *SPECIAL_TOKENS, "<|", "|>", "<", "|", " ", "  ", "\n", "\r\n", "\n\n", "\t", "a", "The", " the", "'s",
    "'LL", "'\u017f", "\u212a", "1", "234", "\u0661", "\u00e9", "e\u0301", "\U0001f916", "\u3000", "\u0085",
    "\0", "\ufffd", "\ufdd0", "\ufdd1", "\U0010ffff", "\u1c89", "\U00010d40", "\U000323b0", "naïve", "?!",
    "_", "\u200d",
]  # fmt: skip
texts = (
    st.one_of(st.text(), st.lists(st.sampled_from(NASTY)).map("".join))
    .filter(lambda text: BREAK not in text and BORDER not in text)
)  # fmt: skip
property_test = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=100)


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hf")
    write_hf_tokenizer(tokenizer, made, 640)
    return made


@pytest.fixture(scope="module")
def raw(folder: Path) -> tokenizers.Tokenizer:
    """As ``tokenizers`` reads it, with special tokens in text taken for text."""
    found = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    found.encode_special_tokens = True
    return found


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@given(text=texts)
@property_test
def test_the_ids_are_ours(text: str, tokenizer: Tokenizer, raw: tokenizers.Tokenizer, theirs: Any) -> None:
    ids = tokenizer.encode(text)
    assert raw.encode(text, add_special_tokens=False).ids == ids
    assert theirs(text, split_special_tokens=True)["input_ids"] == ids
    assert theirs.decode(ids) == text


@given(parts=st.lists(st.one_of(st.sampled_from(SPECIAL_TOKENS), texts)))
@property_test
def test_special_tokens_are_such_where_asked(parts: list[str], tokenizer: Tokenizer, theirs: Any) -> None:
    """As transformers does by itself: equal to our encoder when it is told to allow them."""
    text = "".join(parts)
    if BREAK not in text and BORDER not in text:
        assert theirs(text)["input_ids"] == tokenizer._encoder.encode(text, allowed_special="all")


def test_each_class_of_characters_is_ours(tokenizer: Tokenizer) -> None:
    """Where letters, numbers and spaces begin and end in Unicode is the same in the regex engine there."""
    edges = _edges()
    assert len(edges) > 2000
    trained = rustbpe.train([f"a{edge} 1{edge} !{edge}" for edge in edges], 4000)
    ours = Tokenizer(tuple(trained.tokens))
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_document(ours)))
    wrong = [
        edge
        for edge in edges
        for text in (f"a{edge}", f"1{edge}", f"!{edge}", f"{edge} b", f"'{edge}")
        if theirs.encode(text, add_special_tokens=False).ids != ours.encode(text)
    ]
    assert wrong == []


def _edges() -> list[str]:
    """The characters before and after which a class of the split pattern changes."""
    everything = [chr(code) for code in range(0x80, 0x110000) if not 0xD800 <= code < 0xE000]
    found: set[int] = set()
    for name in (r"\p{L}", r"\p{N}", r"\s"):
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(f"{name}+"), "isolated")
        at = 0
        for piece, _ in split.pre_tokenize_str("".join(everything)):
            found |= {at - 1, at}
            at += len(piece)
    return [everything[at] for at in sorted(found) if at >= 0]


def test_a_batch_is_padded_on_the_left(theirs: Any, tokenizer: Tokenizer) -> None:
    """The models take padding there only, and ``generate`` goes on at the right."""
    short, long = theirs(["hi", "the answer, as they say"], padding=True)["input_ids"]
    ids, end = tokenizer.encode("hi"), tokenizer.special("assistant_end")
    assert short == [end] * (len(long) - len(ids)) + ids
    assert len(long) > len(ids)


def test_the_two_exceptions_are_as_said(theirs: Any, tokenizer: Tokenizer) -> None:
    for text, taken in ((f"a{BORDER}b", "ab"), (f"a<{BREAK}|b", "a<|b")):
        found = theirs(text, split_special_tokens=True)["input_ids"]
        assert theirs.decode(found) == taken
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_another_pattern_goes_along(tokenizer: Tokenizer) -> None:
    ours = Tokenizer(tokenizer.tokens, r"\p{L}+|\P{L}")
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_document(ours)))
    text = "the answer, as they say, is 1234"
    assert theirs.encode(text, add_special_tokens=False).ids == ours.encode(text)
    assert tokenizer_document(tokenizer)["pre_tokenizer"]["pretokenizers"][1]["pattern"] == {
        "Regex": SPLIT_PATTERN
    }


def test_bytes_alone_are_a_vocabulary() -> None:
    ours = Tokenizer(tuple(bytes([byte]) for byte in range(256)))
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_document(ours)))
    assert theirs.encode("naïve \0 🤖", add_special_tokens=False).ids == ours.encode("naïve \0 🤖")


def test_each_token_is_joined_of_two_earlier_ones(tokenizer: Tokenizer) -> None:
    pairs = merge_pairs(tokenizer.tokens)
    assert len(pairs) == len(set(pairs)) == len(tokenizer.tokens) - 256
    for id_, (left, right) in enumerate(pairs, 256):
        assert max(left, right) < id_
        assert tokenizer.tokens[left] + tokenizer.tokens[right] == tokenizer.tokens[id_]


def test_transformers_knows_the_special_tokens(theirs: Any, tokenizer: Tokenizer) -> None:
    assert isinstance(theirs, PreTrainedTokenizerFast)
    assert sorted(theirs.all_special_tokens) == sorted(SPECIAL_TOKENS)
    assert theirs.bos_token_id == tokenizer.special("bos")
    assert theirs.eos_token_id == theirs.pad_token_id == tokenizer.special("assistant_end")
    assert theirs.model_max_length == 640
    assert len(theirs) == tokenizer.vocab_size
    ids = [tokenizer.special("bos"), *tokenizer.encode("hi"), tokenizer.special("assistant_end")]
    assert theirs.decode(ids, skip_special_tokens=True) == "hi"
    assert theirs.decode(ids) == tokenizer.decode(ids)
