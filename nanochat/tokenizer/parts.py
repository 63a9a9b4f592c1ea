"""What there is to see of a tokenizer, in parts: each as a value for programs and as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nanochat.tokenizer.chat import Conversation
from nanochat.tokenizer.comparison import Comparison
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.tokenizer.view import Table, TextView, shortened, view_conversation, view_text, visible
from nanochat.tokenizer.vocabulary import special_tokens, vocabulary

COMPARISON_COLUMNS = ("tokenizer", "tokens", "chars", "bytes", "tokens/byte", "bytes/token", "text")
_HOW_TO_GET = "tiktoken.get_encoding(NAME) in Python downloads one, once"


@dataclass(frozen=True)
class Part:
    """``value``: JSON under ``key``. ``views`` and ``tables``: the same for people."""

    key: str
    value: Any
    views: Sequence[TextView] = ()
    tables: Sequence[Table] = ()


def text_part(tokenizer: Tokenizer, text: str) -> Part:
    """The tokens of a text."""
    view = view_text(tokenizer, text)
    return Part("text", view.as_dict(), views=[view])


def chat_part(tokenizer: Tokenizer, conversations: Iterable[Conversation]) -> Part:
    """The tokens of conversations, and which the model is trained to say."""
    views = [view_conversation(tokenizer, conversation) for conversation in conversations]
    return Part("chat", [view.as_dict() for view in views], views=views)


def special_part(tokenizer: Tokenizer) -> Part:
    """The special tokens."""
    tokens = special_tokens(tokenizer)
    rows = [(token.token, str(token.id), token.purpose) for token in tokens]
    note = "Typed text never becomes one of these: code asks for them by name."
    table = Table("Special tokens", ("token", "id", "what for"), rows, note)
    return Part("special", [asdict(token) for token in tokens], tables=[table])


def vocabulary_part(tokenizer: Tokenizer) -> Part:
    """What is in the vocabulary."""
    found = vocabulary(tokenizer)
    note = f"The longest tokens: {'  '.join(map(visible, found.longest)) or 'none is merged'}"
    table = Table("Vocabulary", ("", "number", "ids"), found.rows(), note)
    return Part("vocab", found.as_dict(), tables=[table])


def comparison_part(found: Comparison) -> Part:
    """How many tokens each tokenizer makes of each text."""
    rows, value = [], []
    for row in found.rows:
        characters = found.characters(row)
        ratio = row.tokens / row.bytes if row.bytes else 0.0
        value.append(row.as_dict() | {"characters": characters, "tokens_per_byte": round(ratio, 4)})
        rows.append((
            row.tokenizer, f"{row.tokens:,}", "" if characters is None else f"{characters:,}",
            f"{row.bytes:,}", f"{ratio:.3f}", f"{row.bytes_per_token:.2f}",
            shortened(visible(row.text.encode(), space=" ")),
        ))  # fmt: skip
    note = f"Not on this machine: {', '.join(found.absent)} ({_HOW_TO_GET})" if found.absent else ""
    table = Table("Comparison", COMPARISON_COLUMNS, rows, note)
    return Part("comparison", {"rows": value, "absent": list(found.absent)}, tables=[table])
