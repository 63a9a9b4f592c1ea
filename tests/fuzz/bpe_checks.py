"""What the campaigns share: typed refusals, tiktoken as the peer, and checks of what came out."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import bpe_draw as drawn
import numpy as np
import tiktoken

import rustbpe

TYPED = (rustbpe.BpeError, TypeError, OverflowError, UnicodeError)


def attempt(call: Callable[[], Any], *more: type[Exception]) -> Any:
    """What ``call`` returns, or the typed exception (or one of ``more``) that it raises."""
    try:
        return call()
    except (*TYPED, *more) as error:
        return error


def refused(outcome: Any) -> bool:
    return isinstance(outcome, Exception)


def named(outcome: Any) -> str:
    return f"refused: {type(outcome).__name__}" if refused(outcome) else "result"


def of_tiktoken(call: Callable[[], Any]) -> Any:
    """What tiktoken says, or None where it refuses or panics."""
    try:
        return call()
    except Exception:
        return None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return None


def peer(
    tokens: list[bytes], pattern: str, specials: dict[str, int] | None = None
) -> tiktoken.Encoding | None:
    mergeable = {token: rank for rank, token in enumerate(tokens)}
    encoding: tiktoken.Encoding | None = of_tiktoken(
        lambda: tiktoken.Encoding(
            "peer", pat_str=pattern, mergeable_ranks=mergeable, special_tokens=specials or {}
        )
    )
    return encoding


@cache
def trained() -> tuple[list[bytes], rustbpe.Encoder, tiktoken.Encoding]:
    """A vocabulary of nasty text, an encoder that all cases share (its cache is warm) and tiktoken's."""
    draw = random.Random(26)
    tokens = rustbpe.train([drawn.text(draw, 200) for _ in range(200)], 1500).tokens
    theirs = peer(tokens, rustbpe.DEFAULT_PATTERN)
    assert theirs
    return tokens, rustbpe.Encoder(tokens), theirs


def check_flat(
    encoder: rustbpe.Encoder, source: Any, rows: list[list[int]], threads: int, dtype: str
) -> None:
    """``encode_to_numpy`` of ``source`` gives ``rows``, one after the other."""
    tokens, offsets = encoder.encode_to_numpy(source, threads, dtype)
    assert (tokens.dtype, offsets.dtype) == (np.dtype(dtype), np.dtype("int64"))
    assert offsets.tolist() == np.cumsum([0, *map(len, rows)]).tolist()
    assert tokens.tolist() == [id_ for row in rows for id_ in row]


def check_trained(made: rustbpe.Trained, size: int) -> None:
    """A vocabulary: the bytes, then tokens that are each two earlier ones joined."""
    tokens = made.tokens
    assert tokens[:256] == drawn.BYTES
    assert len(tokens) <= size
    assert made.stopped_early == (len(tokens) < size)
    known = set(tokens[:256])
    for token in tokens[256:]:
        assert token not in known
        assert any(token[:at] in known and token[at:] in known for at in range(1, len(token)))
        known.add(token)
