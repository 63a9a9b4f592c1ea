"""How ids are divided, and what each special token is for."""

from __future__ import annotations

import json

from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer
from nanochat.tokenizer.training import train_on_texts
from nanochat.tokenizer.vocabulary import special_tokens, vocabulary


def test_every_special_token_has_its_id_and_a_purpose(tokenizer: Tokenizer) -> None:
    found = special_tokens(tokenizer)
    assert [token.token for token in found] == list(SPECIAL_TOKENS)
    assert [token.id for token in found] == list(range(341, 350))
    assert len({token.purpose for token in found}) == 9


def test_the_ranges_hold_every_id_once(tokenizer: Tokenizer) -> None:
    found = vocabulary(tokenizer)
    ordinary, single, merged, special = found.ranges
    assert (found.size, ordinary.count, single.count, merged.count, special.count) == (350, 341, 256, 85, 9)
    assert [part.ids for part in found.ranges] == ["0 – 340", "0 – 255", "256 – 340", "341 – 349"]
    assert (ordinary.first, ordinary.last) == (single.first, merged.last)
    assert (single.last + 1, merged.last + 1, special.last + 1) == (merged.first, special.first, found.size)


def test_facts_about_merged_tokens(tokenizer: Tokenizer) -> None:
    found, merged = vocabulary(tokenizer), tokenizer.tokens[256:]
    assert found.mean_bytes == sum(map(len, merged)) / len(merged)
    assert [len(token) for token in found.longest] == sorted(map(len, merged), reverse=True)[:8]
    assert vocabulary(train_on_texts(["the then"], 267)).partial == 0
    assert vocabulary(train_on_texts(["🤖🤡" * 9], 267)).partial == 2
    document = found.as_dict()
    assert json.loads(json.dumps(document))["longest"][0] == found.longest[0].hex()
    assert [part["count"] for part in document["ranges"]] == [341, 256, 85, 9]


def test_a_tokenizer_of_bytes_alone() -> None:
    found = vocabulary(train_on_texts(["a"], 265))
    assert (found.mean_bytes, found.longest, found.partial) == (0.0, (), 0)
    assert [part.ids for part in found.ranges] == ["0 – 255", "0 – 255", "none", "256 – 264"]
    assert ("ordinary: merged from two others", "0", "none") in found.rows()
