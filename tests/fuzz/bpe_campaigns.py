"""One function for each campaign of ``bpe.py``: draws a case, checks its outcome and names it."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import combinations
from typing import Any

import bpe_draw as drawn
import numpy as np
from bpe_checks import attempt, check_flat, check_trained, named, of_tiktoken, peer, refused, trained
from bpe_data import arrow, parquet

import rustbpe

ODD = (AttributeError, RecursionError)  # what Python itself says of odd objects
THREADS = [0, 1, 2, 3, 7, 1_000_000]


def encode(draw: random.Random) -> str:
    """Nasty texts in batches, by threads, with a cold or warm cache: tiktoken's ids, and back again."""
    tokens, shared, theirs = trained()
    encoder = shared if draw.random() < 0.8 else rustbpe.Encoder(tokens)
    batch, threads = drawn.texts(draw), draw.choice(THREADS)
    if batch and draw.random() < 0.05:
        batch[draw.randrange(len(batch))] = drawn.with_surrogate(draw, draw.choice(batch))
        ways = [encoder.encode_batch, encoder.encode_to_numpy, lambda all_: [*map(encoder.encode, all_)]]
        outcomes = [attempt(lambda way=way: way(batch)) for way in ways]  # type: ignore[misc]
        assert all(map(refused, outcomes))
        return "lone surrogate refused"
    if draw.random() < 0.1:
        with ThreadPoolExecutor(2) as pool:
            rows, again = pool.map(encoder.encode_batch, [batch, batch])
        assert rows == again
    else:
        rows = encoder.encode_batch(batch, threads)
    check_flat(encoder, batch, rows, threads, draw.choice(["uint16", "uint32"]))
    for text, row in zip(batch, rows, strict=True):
        expected = of_tiktoken(lambda text=text: theirs.encode_ordinary(text))  # type: ignore[misc]
        assert expected is None or row == expected, f"{text!r}: {row}, tiktoken: {expected}"
        assert encoder.encode(text) == row
        assert encoder.count(text) == len(row)
        assert encoder.decode_bytes(row) == text.encode()
        assert encoder.decode(row) == text
    return "equal"


def train(draw: random.Random) -> str:
    """Texts, sizes, threads, callbacks, and iterables with something wrong in them."""
    batch: list[Any] = drawn.texts(draw, 30)
    size = draw.choice([-1, 0, 255, 256, 257, 300, 300, 500, 500, 5000, 2**31, 2**32, 2**63, 2**64])
    wrong = draw.random() < 0.2
    if wrong:
        bad = draw.choice(["\ud800", None, b"bytes", 3, drawn.Raises()])
        batch.insert(draw.randrange(len(batch) + 1), bad)
    calls: list[tuple[Any, ...]] = []
    progress = draw.choice([None, lambda *said: calls.append(said)])
    threads = draw.choice(THREADS)
    made = attempt(
        lambda: rustbpe.train(iter(batch), size, threads=threads, progress=progress), drawn.Deliberate
    )
    if refused(made):
        assert wrong or not 256 <= size <= 5000 or not "".join(batch), repr(made)
        return named(made)
    assert not wrong, "a text that is no str was accepted"
    check_trained(made, size)
    assert {said[0] for said in calls} <= {"count", "merge"}
    again = rustbpe.train(draw.sample(batch, len(batch)), size, threads=draw.choice(THREADS))
    assert again.tokens == made.tokens, "threads or order matter"
    encoder = rustbpe.Encoder(made.tokens)
    assert all(encoder.decode(encoder.encode(text)) == text for text in batch)
    return named(made)


def patterns(draw: random.Random) -> str:
    """Patterns that are valid or not, some of which no engine can finish."""
    pattern, tokens = drawn.pattern(draw), drawn.ranks(draw, 60)
    batch = [drawn.text(draw, 12)[:200] for _ in range(3)]
    made = attempt(lambda: rustbpe.train(batch, 280, pattern))
    if not refused(made):
        check_trained(made, 280)
    encoder = attempt(lambda: rustbpe.Encoder(tokens, pattern))
    if refused(encoder):
        assert isinstance(encoder, (rustbpe.PatternError, UnicodeError)), repr(encoder)
        return named(encoder)
    theirs = peer(tokens, pattern)
    outcome = "result"
    for text in batch:
        row = attempt(lambda text=text: encoder.encode(text))  # type: ignore[misc]
        if refused(row):
            outcome = named(row)
            continue
        expected = of_tiktoken(lambda text=text: theirs and theirs.encode_ordinary(text))  # type: ignore[misc]
        if expected is not None:
            outcome = "equal"
            assert row == expected, f"{pattern!r} on {text!r}: {row}, tiktoken: {expected}"
    return outcome


def special_tokens(draw: random.Random, tokens: int) -> dict[str, int]:
    """Up to four, mostly in order."""
    names = ["<|bos|>", "<|end|>", "<|", "a", "", " ", "漢", "\n\n", "<|bos|><|end|>", "\ud800", "(.*)"]
    good = draw.random() < 0.6
    chosen = draw.sample(names[:2] if good else names, draw.randrange(3 if good else 5))
    ids = [0, -1, 2**31, 2**32 - 1, 2**32, 2**64, tokens - 1, tokens + 70_000]
    return {
        name: tokens + at if good or draw.random() < 0.7 else draw.choice(ids)
        for at, name in enumerate(chosen)
    }


def comparable(specials: dict[str, int]) -> bool:
    """tiktoken's answer is defined: no name is empty or inside another."""
    return all(specials) and not any(a in b or b in a for a, b in combinations(specials, 2))


def vocabularies(draw: random.Random) -> str:
    """Vocabularies that are tampered with and special tokens: refused, or the same ids as tiktoken's."""
    ranks = drawn.ranks(draw)
    given = ranks if draw.random() < 0.3 else drawn.tampered(draw, ranks)
    specials = special_tokens(draw, len(given) if isinstance(given, (list, tuple)) else len(ranks))
    encoder = attempt(lambda: rustbpe.Encoder(given, special_tokens=specials))
    if refused(encoder):
        assert given is not ranks or specials, repr(encoder)
        return named(encoder)
    if not isinstance(given, (list, tuple)):
        return "result"
    kept = [*map(bytes, given)]
    allowed = draw.sample([*specials, "<|other|>"], draw.randrange(len(specials) + 1))
    theirs = peer(kept, rustbpe.DEFAULT_PATTERN, specials)
    for text in ["<|bos|>".join(drawn.texts(draw, 4)), drawn.text(draw)]:
        row = encoder.encode(text)
        assert encoder.decode_bytes(row) == text.encode()
        plain = of_tiktoken(lambda text=text: theirs and theirs.encode_ordinary(text))  # type: ignore[misc]
        assert plain is None or row == plain, f"{text!r}: {row}, tiktoken: {plain}"
        mixed = attempt(lambda text=text: encoder.encode(text, allowed))  # type: ignore[misc]
        if refused(mixed):
            assert {*allowed} - {*specials}, repr(mixed)
            continue
        assert encoder.decode_bytes(mixed) == text.encode()
        if theirs and comparable(specials):
            known = {*allowed} & {*specials}
            expected = theirs.encode(text, allowed_special=known, disallowed_special=())
            assert mixed == expected, f"{text!r}, {known}: {mixed}, tiktoken: {expected}"
    return "equal"


@cache
def decoder() -> tuple[rustbpe.Encoder, dict[int, bytes]]:
    """An encoder with special tokens, the last after a gap, and what each id stands for."""
    tokens, *_ = trained()
    specials = {"<|bos|>": len(tokens), "<|far|>": len(tokens) + 1000}
    bytes_of = dict(enumerate(tokens)) | {id_: name.encode() for name, id_ in specials.items()}
    return rustbpe.Encoder(tokens, special_tokens=specials), bytes_of


def decode(draw: random.Random) -> str:
    """Ids of any kind: the bytes of the tokens, or a refusal if one of them is none."""
    encoder, bytes_of = decoder()
    ids: list[Any] = draw.choices([*bytes_of], k=draw.randrange(40))
    valid = draw.random() < 0.5
    if not valid:
        bad = [max(bytes_of) - 1, max(bytes_of) + 1, -1, 2**32, 2**32 + 5, 2**64]
        bad += [1.0, "a", None, b"a", [], drawn.Raises()]
        ids.insert(draw.randrange(len(ids) + 1), draw.choice(bad))
    kinds: list[Callable[[list[Any]], Any]] = [list, list, list, tuple, iter, np.array, np.uint32, np.float64]
    kind = draw.choice(kinds if valid else kinds[:5])
    given = kind(ids)
    found = attempt(lambda: encoder.decode_bytes(given), drawn.Deliberate)
    if refused(found):
        assert not valid or kind is not list, repr(found)
    else:
        assert valid, "an id that is none was decoded"
        assert found == b"".join(map(bytes_of.__getitem__, ids))
    errors = draw.choice(
        ["replace", "strict", "ignore", "backslashreplace", "surrogateescape", "nonsense", ""]
    )
    said = attempt(lambda: encoder.decode(kind(ids), errors), drawn.Deliberate, LookupError)
    if not refused(said) and not refused(found):
        assert said == found.decode("utf-8", errors)
    return named(found)


def types(draw: random.Random) -> str:
    """Every function with arguments that are nothing of the kind."""
    tokens, encoder, _ = trained()
    calls: list[tuple[Callable[..., Any], list[Any]]] = [
        (rustbpe.train, [["some text"], 260, rustbpe.DEFAULT_PATTERN, 1, None]),
        (rustbpe.train_parquet, [[], 260, "text", rustbpe.DEFAULT_PATTERN, 1, None, None, None]),
        (rustbpe.Encoder, [tokens, rustbpe.DEFAULT_PATTERN, {}]),
        (encoder.encode, ["text", ()]),
        (encoder.encode_batch, [["text"], 1]),
        (encoder.encode_to_numpy, [["text"], 1, "uint32"]),
        (encoder.count, ["text"]),
        (encoder.decode_bytes, [[1, 2]]),
        (encoder.decode, [[1, 2], "replace"]),
    ]
    call, arguments = draw.choice(calls)
    for _ in range(draw.randint(1, 3)):
        arguments[draw.randrange(len(arguments))] = drawn.junk(draw)
    if draw.random() < 0.1:
        arguments = arguments[: draw.randrange(len(arguments) + 1)] + [None] * draw.randrange(2)
    try:
        outcome = attempt(lambda: call(*arguments), drawn.Deliberate, ValueError, LookupError, OSError, *ODD)
    except BaseException as error:
        error.add_note(f"{call.__name__}({', '.join(type(argument).__name__ for argument in arguments)})")
        raise
    return f"{call.__name__} {named(outcome)}"


CAMPAIGNS: dict[str, Callable[[random.Random], str]] = {
    "encode": encode,
    "train": train,
    "patterns": patterns,
    "vocabularies": vocabularies,
    "decode": decode,
    "types": types,
    "arrow": arrow,
    "parquet": parquet,
}
