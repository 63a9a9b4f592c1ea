"""Several tokenizers over the same texts, beside those of GPT-2 and cl100k where this machine has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from artifacts.errors import DataError
from nanochat.tokenizer.inspection import PEERS, Compression, compression, peers

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Comparison:
    """``rows``: for each text one of each tokenizer; ``absent``: peers that are not on this machine."""

    texts: Mapping[str, str]
    rows: Sequence[Compression]
    absent: Sequence[str]

    def characters(self, row: Compression) -> int | None:
        """How long that row's text is; None if only its size was recorded."""
        return len(self.texts[row.text]) if row.text in self.texts else None

    def with_rows(self, rows: Sequence[Compression]) -> Comparison:
        """The same, and more rows."""
        return replace(self, rows=[*self.rows, *rows])


def compare(tokenizers: Mapping[str, Encode], texts: Mapping[str, str]) -> Comparison:
    """Every text with every tokenizer and every peer at hand. Nothing is downloaded.

    Raises DataError for a lone surrogate.
    """
    for text in texts.values():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"text {text!r:.60} cannot be encoded: {error.reason}") from None
    present = peers()
    rows = [
        row
        for name, text in texts.items()
        for tokenizer, encode in (*tokenizers.items(), *present.items())
        for row in compression(tokenizer, encode, {name: text})
    ]
    return Comparison(texts, rows, [peer for peer in PEERS if peer not in present])
