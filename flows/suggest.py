"""Did-you-mean for every name a user types."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from artifacts.errors import UsageError


def unknown(what: str, value: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist: the nearest one, or all of them."""
    names = list(known)
    close = get_close_matches(value, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"one of: {', '.join(names)}"
    return UsageError(f"unknown {what} {value!r}", hint)
