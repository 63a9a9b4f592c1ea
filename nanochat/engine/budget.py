"""The context budget: a long conversation loses its oldest exchanges, so that an answer still fits."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from artifacts.errors import UsageError
from nanochat.tokenizer.chat import render_for_completion
from nanochat.tokenizer.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, Any]]


class Fitted(NamedTuple):
    """The ids of a prompt, and how many messages it lacks: the oldest; a system message goes last of all."""

    prompt: list[int]
    messages_dropped: int


def fit(tokenizer: Tokenizer, messages: Messages, *, context_tokens: int, answer_tokens: int) -> Fitted:
    """The end of a conversation, in whole exchanges, that leaves room for ``answer_tokens``.

    They count as at most half of the context; where the last message is too long for that, the answer gets
    what is left. Raises UsageError when the last message alone leaves no room at all, DataError for messages
    that are no conversation.
    """
    room = context_tokens - min(answer_tokens, context_tokens // 2)

    def fitted(kept: Messages) -> Fitted:
        prompt = render_for_completion(tokenizer, {"messages": list(kept)})
        return Fitted(prompt, len(messages) - len(kept))

    if len((whole := fitted(messages)).prompt) <= room:
        return whole
    choices = _shorter(messages)
    found = bisect_left(choices, True, key=lambda kept: len(fitted(kept).prompt) <= room)
    best = fitted(choices[found]) if found < len(choices) else fitted(choices[-1])
    if len(best.prompt) >= context_tokens:
        raise UsageError(
            f"the last message makes a prompt of {len(best.prompt)} tokens",
            f"at most {context_tokens - 1} fit; write less",
        )
    return best


def _shorter(messages: Messages) -> list[Messages]:
    """``messages`` without the first exchanges: one less each, then without the system message."""
    system, spoken = (messages[:1], messages[1:]) if messages[0]["role"] == "system" else ([], messages)
    last = len(spoken) - 2 + len(spoken) % 2
    choices: list[Messages] = [[*system, *spoken[start:]] for start in range(0, last + 1, 2)]
    return [*choices, spoken[last:]] if system else choices
