"""A tokenizer as files for tiktoken: the ranks, and a few lines of Python that make an encoding of them."""

from __future__ import annotations

import base64
from pathlib import Path

from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

RANKS, LOADER = "nanochat.tiktoken", "nanochat_encoding.py"
_LOADER = '''\
"""The tokenizer as a tiktoken encoding: ``load().encode_ordinary("text")``."""

import base64
from pathlib import Path

import tiktoken

PATTERN = {pattern!r}
SPECIAL_TOKENS = {special!r}


def load(folder=Path(__file__).parent):
    """The encoding whose ranks are in {ranks} in ``folder``."""
    lines = (Path(folder) / "{ranks}").read_bytes().splitlines()
    ranks = {{base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}}
    return tiktoken.Encoding(
        "nanochat", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=SPECIAL_TOKENS
    )
'''


def write_tiktoken(tokenizer: Tokenizer, folder: Path) -> None:
    """The rank file, a line a token as ``tiktoken.load`` reads it, and a module that makes the encoding."""
    lines = (b"%b %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokenizer.tokens))
    (folder / RANKS).write_bytes(b"".join(lines))
    special = {token: tokenizer.special(token[2:-2]) for token in SPECIAL_TOKENS}
    text = _LOADER.format(pattern=tokenizer.pattern, special=special, ranks=RANKS)
    (folder / LOADER).write_text(text, encoding="utf-8")
