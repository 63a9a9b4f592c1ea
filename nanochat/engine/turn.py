"""One assistant turn as a state machine: sampled tokens in, the turn's tokens (some forced) out.

``python_start`` begins an expression, ``python_end`` evaluates it, and then ``output_start``, the result
and ``output_end`` are forced into the turn, whatever the model would have said. A failed call gives the
model ``error: …`` in the same place. The turn stops at ``assistant_end`` (it ended by itself), at
``bos``, or when it is full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from artifacts.errors import UsageError
from nanochat.engine.calculator import CalculatorError
from nanochat.tokenizer.tokenizer import Tokenizer

Calculator = Callable[[str], str]
Kind = Literal["text", "python", "python_output"]

SILENT = ("bos", "user_start", "user_end", "assistant_start", "assistant_end")


@dataclass(frozen=True)
class ToolCall:
    """One call that the model wrote: the expression as written, what it was told, and if that is a value."""

    expression: str
    output: str
    ok: bool


class Turn:
    """Collects one turn. ``mask`` is 1 for tokens the model chose and 0 for forced ones.

    Without a calculator nothing is forced.
    """

    def __init__(self, tokenizer: Tokenizer, calculator: Calculator | None, max_tokens: int) -> None:
        self.ids: list[int] = []
        self.mask: list[int] = []
        self.tool_calls: list[ToolCall] = []
        self.ended = False
        self.done = max_tokens <= 0
        self._tokenizer, self._calculator, self._max_tokens = tokenizer, calculator, max_tokens
        self._forced: deque[int] = deque()
        self._expression: list[int] | None = None  # inside python_start … python_end

    def accept(self, sampled: int) -> int:
        """Append the forced token that is due, else ``sampled``; return the one appended."""
        assert not self.done
        forced = bool(self._forced)
        token = self._forced.popleft() if forced else sampled
        self.ids.append(token)
        self.mask.append(0 if forced else 1)
        if not forced:
            self._react(token)
        self.done = self.done or self.full
        return token

    @property
    def full(self) -> bool:
        """No more tokens fit."""
        return len(self.ids) >= self._max_tokens

    def take_forced(self) -> list[int]:
        """Append all forced tokens that are due, as far as the turn holds them; returns them."""
        taken = []
        while self._forced and not self.done:
            taken.append(self.accept(-1))
        return taken

    def _react(self, token: int) -> None:
        special = self._tokenizer.special
        if token == special("assistant_end"):
            self.ended = self.done = True
        elif token == special("bos"):
            self.done = True
        elif token == special("python_start"):
            self._expression = []
        elif token == special("python_end"):
            if self._expression is not None and self._calculator is not None:
                self._call(self._calculator, self._tokenizer.decode(self._expression))
            self._expression = None
        elif self._expression is not None:
            self._expression.append(token)

    def _call(self, calculator: Calculator, expression: str) -> None:
        try:
            call = ToolCall(expression, calculator(expression), ok=True)
        except CalculatorError as error:
            call = ToolCall(expression, f"error: {error}", ok=False)
        self.tool_calls.append(call)
        special = self._tokenizer.special
        self._forced.extend(
            (special("output_start"), *self._tokenizer.encode(call.output), special("output_end"))
        )


def room_after(prompt: Sequence[int], context_tokens: int) -> int:
    """How many tokens an answer to ``prompt`` may have. UsageError for an empty prompt or where none fits."""
    room = context_tokens - len(prompt)
    if not prompt or room <= 0:
        hint = f"between 1 and {context_tokens - 1} tokens fit"
        raise UsageError(f"a prompt of {len(prompt)} tokens cannot be continued", hint)
    return room


class PartReader:
    """Which kind of text each token of a turn belongs to; a marker belongs to none."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        special = tokenizer.special
        self._opens: dict[int, Kind] = {
            special("python_start"): "python",
            special("python_end"): "text",
            special("output_start"): "python_output",
            special("output_end"): "text",
        }
        self._silent = {special(name) for name in SILENT}
        self._kind: Kind = "text"

    def read(self, token: int) -> Kind | None:
        """The kind of text ``token`` adds to, or None for a special token."""
        if token in self._opens:
            self._kind = self._opens[token]
            return None
        return None if token in self._silent else self._kind


def split_parts(tokenizer: Tokenizer, ids: list[int]) -> list[tuple[Kind, str]]:
    """The texts of a turn in order, as (kind, text); texts between the same markers are one part."""
    reader = PartReader(tokenizer)
    parts: list[tuple[Kind, list[int]]] = []
    apart = True
    for token in ids:
        kind = reader.read(token)
        if kind is None:
            apart = True
            continue
        if apart:
            parts.append((kind, []))
        parts[-1][1].append(token)
        apart = False
    return [(kind, tokenizer.decode(tokens)) for kind, tokens in parts]
