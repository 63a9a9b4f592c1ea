"""The encoder against tiktoken, and where tiktoken gives up."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

import rustbpe

SPACES = [" ", "  ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u2003", "\u2028", "\u3000", "\v", "\x85", "\x1c"]
WORDS = [
    "don't", "I'LL", "'ſ", "’s", "''''", "'v'r've", "naïve", "e\u0301e\u0301", "ǅ", "İı", "ﬃ", "x" * 300,
    "1234567", "٣٤٥", "Ⅷ½²", "१२३", "漢字かな", "한국어", "עברית\u200f", "\u202eabc",
    "🤖", "👩‍👩‍👧‍👦", "🏳️‍🌈", "\ufeff",
    "\0", "\x7f", "\ufffd", "\uffff", "\U0010ffff", "\U000e0041", "\U0002a6d6", "<|bos|>", "…!?---",
    "a\u0300" * 50,
]  # fmt: skip
NASTY = [
    "",
    *SPACES,
    *WORDS,
    *map("".join, itertools.product(WORDS, SPACES[:6])),
    "".join(WORDS),
    "".join(SPACES),
]


@pytest.fixture(scope="module")
def ranks(corpus: list[str]) -> list[bytes]:
    return rustbpe.train(corpus, 1500).tokens


@pytest.fixture(scope="module")
def encoder(ranks: list[bytes]) -> rustbpe.Encoder:
    return rustbpe.Encoder(ranks)


@pytest.fixture(scope="module")
def peer(ranks: list[bytes]) -> tiktoken.Encoding:
    mergeable = {token: rank for rank, token in enumerate(ranks)}
    return tiktoken.Encoding(
        "peer", pat_str=rustbpe.DEFAULT_PATTERN, mergeable_ranks=mergeable, special_tokens={}
    )


def joined(ranks: list[bytes], ids: list[int]) -> str:
    return b"".join(ranks[id_] for id_ in ids).decode()


@pytest.mark.criterion("T26")
def test_random_strings_encode_as_tiktoken_does(
    ranks: list[bytes], encoder: rustbpe.Encoder, peer: tiktoken.Encoding
) -> None:
    @settings(max_examples=5000, deadline=None)
    @given(st.text(max_size=200) | st.lists(st.sampled_from(SPACES + WORDS)).map("".join))
    def check(text: str) -> None:
        ids = encoder.encode(text)
        assert ids == peer.encode_ordinary(text)
        assert joined(ranks, ids) == text

    check()


@pytest.mark.criterion("T26")
def test_nasty_strings_encode_as_tiktoken_does(
    ranks: list[bytes], encoder: rustbpe.Encoder, peer: tiktoken.Encoding
) -> None:
    assert len(set(NASTY)) >= 200
    for text in NASTY:
        ids = encoder.encode(text)
        assert ids == peer.encode_ordinary(text), repr(text)
        assert joined(ranks, ids) == text


def test_real_prose_encodes_as_tiktoken_does(
    corpus: list[str], encoder: rustbpe.Encoder, peer: tiktoken.Encoding
) -> None:
    assert encoder.encode_batch(corpus, 2) == peer.encode_ordinary_batch(corpus, num_threads=2)


def test_every_code_point_encodes_as_tiktoken_does(encoder: rustbpe.Encoder, peer: tiktoken.Encoding) -> None:
    characters = [chr(code) for code in range(0x30000) if not 0xD800 <= code < 0xE000]
    text = "".join(f"'{c}{c}e {c} 1{c}" for c in characters)
    assert encoder.encode(text) == peer.encode_ordinary(text)


def random_letters(length: int) -> str:
    return "".join(random.Random(length).choices("abdegikmnorstuvw", k=length))


@pytest.mark.parametrize(
    "text",
    ["x" * 100_000, "abcdefgh" * 12_500, " " * 50_000 + "x", random_letters(90_000), "ingver" * 15_000],
    ids=len,
)
def test_long_pieces_encode_as_tiktoken_does(
    text: str, encoder: rustbpe.Encoder, peer: tiktoken.Encoding
) -> None:
    assert encoder.encode(text) == peer.encode_ordinary(text)


@pytest.mark.parametrize(
    "text", [" " * 1_000_000, "x" * 1_000_000, "\n" * 1_000_000, "1 " * 500_000, "漢" * 300_000]
)
def test_a_million_characters_end_in_time(text: str, ranks: list[bytes], encoder: rustbpe.Encoder) -> None:
    assert joined(ranks, encoder.encode(text)) == text  # quadratic work would take an hour


def test_ids_of_tokens_with_several_ways_to_be_joined() -> None:
    ranks = [bytes([byte]) for byte in range(256)] + [b"ab", b"bc", b"abc", b"bcd", b"abcd"]
    peer = tiktoken.Encoding(
        "x", pat_str=r"\S+", mergeable_ranks={token: i for i, token in enumerate(ranks)}, special_tokens={}
    )
    encoder = rustbpe.Encoder(ranks, r"\S+")
    for letters in itertools.product("abcd", repeat=6):
        assert encoder.encode("".join(letters)) == peer.encode_ordinary("".join(letters))


@pytest.mark.parametrize("threads", [0, 1, 2, 8, 10**6])
def test_a_batch_is_each_text_alone(threads: int, encoder: rustbpe.Encoder) -> None:
    assert encoder.encode_batch(NASTY, threads) == [encoder.encode(text) for text in NASTY]
    assert encoder.encode_batch([], threads) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ranks: [*ranks[:300], ranks[280]], "ranks 280 and 300 are the same token"),
        (lambda ranks: ranks[:7] + ranks[8:], "no token for the byte 0x07"),
        (lambda ranks: [*ranks, b"qqqqqqqq"], "rank 1500 is not two earlier tokens joined"),
        (lambda ranks: [*ranks, b""], "rank 1500 is empty"),
        (
            lambda _: [bytes([b]) for b in range(256)] + [b"bc", b"ab", b"cd", b"abcd"],
            "rank 259 never comes up",
        ),
        (lambda ranks: [], "no token for the byte 0x00"),
    ],
)
def test_ranks_that_are_no_vocabulary_are_refused(change, message: str, ranks: list[bytes]) -> None:
    with pytest.raises(rustbpe.VocabularyError, match=message):
        rustbpe.Encoder(change(ranks))


def test_bad_text_is_an_error(encoder: rustbpe.Encoder) -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encoder.encode("a\ud800")
    with pytest.raises(ValueError, match=r"texts\[1\].*surrogates not allowed"):
        encoder.encode_batch(["a", "\udfff"])
    with pytest.raises(TypeError):
        encoder.encode(b"bytes")
    with pytest.raises(TypeError):
        encoder.encode_batch(["a", 3])
    with pytest.raises(ValueError, match="gave up"):
        rustbpe.Encoder([bytes([b]) for b in range(256)], rustbpe.DEFAULT_PATTERN + "|x").encode(
            " " * 4_000_000
        )


def test_flat_arrays_hold_the_same_ids(corpus: list[str], encoder: rustbpe.Encoder) -> None:
    texts = ["", *corpus, "", "end"]
    expected = encoder.encode_batch(texts)
    for threads in (1, 2, 7):
        for given_as in (texts, pa.array(texts), pa.chunked_array([texts[:9], texts[9:]], pa.large_string())):
            for dtype in ("uint16", "uint32"):
                tokens, offsets = encoder.encode_to_numpy(given_as, threads, dtype)
                assert (tokens.dtype, offsets.dtype) == (np.dtype(dtype), np.dtype(np.int64))
                assert [tokens[a:b].tolist() for a, b in itertools.pairwise(offsets)] == expected
    tokens, offsets = encoder.encode_to_numpy([])
    assert (tokens.tolist(), offsets.tolist()) == ([], [0])


def test_what_was_learned_of_pieces_changes_nothing(corpus: list[str], ranks: list[bytes]) -> None:
    encoder = rustbpe.Encoder(ranks)
    assert (
        encoder.encode_batch(corpus, 3) == encoder.encode_batch(corpus, 3) == encoder.encode_batch(corpus, 1)
    )


def test_uint16_is_refused_where_ids_are_larger(ranks: list[bytes]) -> None:
    encoder = rustbpe.Encoder(ranks, special_tokens={"<|end|>": 70_000})
    with pytest.raises(rustbpe.VocabularyError, match="70001 ids do not fit into uint16"):
        encoder.encode_to_numpy(["a"], dtype="uint16")
    with pytest.raises(TypeError, match="give uint16 or uint32"):
        encoder.encode_to_numpy(["a"], dtype="int8")


def test_special_tokens_only_where_they_are_allowed(ranks: list[bytes]) -> None:
    encoder = rustbpe.Encoder(ranks, special_tokens={"<|a|>": 2**32 - 1, "<|b|>": 1500})
    text = "one<|a|><|b|> two <|a|"
    assert max(encoder.encode(text)) < 1500
    assert encoder.encode(text, {"<|a|>"}).count(2**32 - 1) == 1
    ids = encoder.encode(text, "all")
    assert [id_ for id_ in ids if id_ >= 1500] == [2**32 - 1, 1500]
    assert encoder.decode(ids) == text
    with pytest.raises(rustbpe.VocabularyError, match='"<\\|c\\|>" is not a special token'):
        encoder.encode(text, ["<|c|>"])
    with pytest.raises(rustbpe.VocabularyError, match="has the id 300 of an ordinary one"):
        rustbpe.Encoder(ranks, special_tokens={"<|a|>": 300})


@given(st.text())
def test_counting_and_decoding(encoder: rustbpe.Encoder, ranks: list[bytes], text: str) -> None:
    ids = encoder.encode(text)
    assert encoder.count(text) == len(ids)
    assert encoder.decode(ids) == encoder.decode(np.array(ids, np.uint16)) == text
    assert encoder.decode_bytes(ids) == b"".join(ranks[id_] for id_ in ids)


@pytest.mark.parametrize("id_", [-1, 1500, 2**32, 2**40])
def test_unknown_ids_are_refused(encoder: rustbpe.Encoder, id_: int) -> None:
    with pytest.raises(rustbpe.VocabularyError, match=f"token id {id_} is"):
        encoder.decode_bytes([1, id_])


def test_characters_that_are_cut(encoder: rustbpe.Encoder) -> None:
    ids = list("🤖".encode())[:3]
    assert encoder.decode(ids) == "\ufffd"
    with pytest.raises(UnicodeDecodeError):
        encoder.decode(ids, "strict")
