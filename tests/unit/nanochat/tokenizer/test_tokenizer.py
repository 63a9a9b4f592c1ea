"""Encoding is ordinary and reversible; the file is plain JSON, and every defect in it is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import DataError, ResourceError
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

SESSION = settings(max_examples=300, deadline=None)


def test_ids_are_bytes_then_merges_then_specials(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 350
    assert tokenizer.tokens[:256] == tuple(bytes([byte]) for byte in range(256))
    assert [tokenizer.special(name[2:-2]) for name in SPECIAL_TOKENS] == list(range(341, 350))
    assert tokenizer.special("bos") == 341
    with pytest.raises(KeyError):
        tokenizer.special("<|bos|>")


@pytest.mark.criterion("T26")
def test_decoding_undoes_encoding(tokenizer: Tokenizer) -> None:
    @SESSION
    @given(st.lists(st.text()))
    def check(texts: list[str]) -> None:
        batch = tokenizer.encode_batch(texts, num_threads=2)
        assert [tokenizer.decode(ids) for ids in batch] == texts
        assert batch == [tokenizer.encode(text) for text in texts]
        lengths = [int(tokenizer.token_bytes[ids].sum()) for ids in batch]
        assert lengths == [len(text.encode()) for text in texts]

    check()


@pytest.mark.criterion("T27")
@pytest.mark.parametrize("special", SPECIAL_TOKENS)
@pytest.mark.parametrize("around", ["{} then text", "text {} text", "text then {}", "{}", "{0}{0}"])
def test_a_typed_special_token_stays_text(tokenizer: Tokenizer, special: str, around: str) -> None:
    text = around.format(special)
    for ids in (tokenizer.encode(text), *tokenizer.encode_batch([text])):
        assert max(ids) < len(tokenizer.tokens)
        assert tokenizer.decode(ids) == text


def test_token_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes.dtype == np.int32
    assert tokenizer.token_bytes.shape == (350,)
    assert tokenizer.token_bytes[:256].tolist() == [1] * 256
    assert tokenizer.token_bytes[256:341].tolist() == [len(token) for token in tokenizer.tokens[256:]]
    assert tokenizer.token_bytes[341:].tolist() == [0] * 9


def test_decoding_shows_special_tokens_and_cut_characters(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([tokenizer.special("bos"), 104, 105]) == "<|bos|>hi"
    robot = list("🤖".encode())
    assert tokenizer.decode(robot[:3]) == "\ufffd"
    assert tokenizer.decode_bytes(robot[:3]) == "🤖".encode()[:3]


@pytest.mark.parametrize("id_", [-1, 350, 2**40])
def test_an_unknown_id_is_refused(tokenizer: Tokenizer, id_: int) -> None:
    with pytest.raises(DataError, match=f"token id {id_} is"):
        tokenizer.decode([104, id_])


def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"cannot be encoded.*surrogates not allowed"):
        tokenizer.encode("\ud800")
    with pytest.raises(DataError, match=r"texts\[1\]"):
        tokenizer.encode_batch(["a", "\ud800"])


def test_flat_arrays(tokenizer: Tokenizer) -> None:
    texts = ["one", "", "the answer"]
    ids, offsets = tokenizer.encode_to_numpy(texts)
    assert ids.dtype == tokenizer.id_dtype == np.uint16
    assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == tokenizer.encode_batch(texts)
    assert tokenizer.count("the answer") == len(tokenizer.encode("the answer"))


@pytest.mark.parametrize(("vocab", "name"), [(300, "uint16"), (65536, "uint16"), (65537, "uint32")])
def test_the_dtype_holds_every_id(vocab: int, name: str) -> None:
    pairs = (bytes(pair) for pair in product(range(256), repeat=2))
    tokens = [bytes([byte]) for byte in range(256)] + list(islice(pairs, vocab - 265))
    longer = (bytes([255, 255, byte]) for byte in range(256))
    tokens += list(islice(longer, vocab - 9 - len(tokens)))
    tokenizer = Tokenizer(tuple(tokens))
    assert tokenizer.vocab_size == vocab
    assert tokenizer.id_dtype.name == name


def test_it_is_the_same_in_tiktoken(tokenizer: Tokenizer) -> None:
    peer = tokenizer.to_tiktoken()
    assert peer.n_vocab == tokenizer.vocab_size
    assert peer.encode("<|user_end|>", allowed_special="all") == [tokenizer.special("user_end")]

    @SESSION
    @given(st.text())
    def check(text: str) -> None:
        assert tokenizer.encode(text) == peer.encode_ordinary(text)

    check()


def test_saving_and_loading(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded == tokenizer
    assert loaded.encode("the answer") == tokenizer.encode("the answer")
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
    assert Tokenizer.load(tmp_path / "again.json") == tokenizer


def changed(key: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {**document, key: change(document[key])}


DEFECTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another object": (lambda _: {"version": "1.0", "model": {}}, "not an object with the keys"),
    "a list": (lambda document: [document], "not an object"),
    "an extra key": (lambda document: {**document, "added": 1}, "not an object with the keys"),
    "a newer schema": (changed("schema", lambda _: 2), "schema 2, this program reads 1"),
    "other specials": (changed("specials", lambda names: names[1:]), "special tokens are"),
    "merges of another type": (changed("merges", dict.fromkeys), "merges is not a list"),
    "bad base64": (changed("merges", lambda merges: [*merges, "a?=="]), "merge 341 is not base64"),
    "a number as merge": (changed("merges", lambda merges: [*merges, 7]), "merge 341 is not base64"),
    "a merge twice": (
        changed("merges", lambda merges: [*merges, merges[3]]),
        "259 and 341 are the same",
    ),
    "a merge lost": (changed("merges", lambda merges: merges[1:]), "is not two earlier tokens joined"),
    "another order": (changed("merges", lambda merges: merges[::-1]), "is not two earlier tokens joined"),
    "a broken pattern": (changed("pattern", lambda _: "("), "pattern"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_changed_file_is_refused(tokenizer: Tokenizer, tmp_path: Path, defect: str) -> None:
    file = tmp_path / "tokenizer.json"
    tokenizer.save(file)
    change, message = DEFECTS[defect]
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(DataError, match=message) as caught:
        Tokenizer.load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x80", b"{", b"[" * 100_000, b"\x80\x04K\x01."])
def test_a_file_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=str(file)):
        Tokenizer.load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no tokenizer at"):
        Tokenizer.load(tmp_path)


def test_tokens_that_are_no_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="first 256 tokens"):
        Tokenizer(tuple(bytes([byte]) for byte in reversed(range(256))))
