"""The context budget: whole exchanges go, the oldest first; an error only where nothing can be done."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import DataError, UsageError
from nanochat.engine.budget import fit
from nanochat.tokenizer.chat import render_for_completion
from tests.unit.nanochat.engine.scripted import ByteTokenizer

TOKENIZER = ByteTokenizer()
CONTEXT = 100


def conversation(lengths: list[int], system: int | None) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": "x" * length} for i, length in enumerate(lengths)]
    return messages if system is None else [{"role": "system", "content": "s" * system}, *messages]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=31),
    st.none() | st.integers(0, 120),
    st.integers(1, 1000),
)
def test_what_is_left_fits_and_no_less_was_dropped(
    lengths: list[int], system: int | None, answer: int
) -> None:
    messages = conversation(lengths, system)
    prompt, dropped = fit(TOKENIZER, messages, context_tokens=CONTEXT, answer_tokens=answer)
    room = CONTEXT - min(answer, CONTEXT // 2)
    spoken = len(messages) if system is None else len(messages) - 1
    kept_system = system is not None and dropped % 2 == 0  # exchanges are two messages each

    def without(exchanges: int, with_system: bool = kept_system) -> list[int]:
        start = 0 if system is None else 1
        head = messages[:1] if with_system else []
        return render_for_completion(TOKENIZER, {"messages": head + messages[start + 2 * exchanges :]})

    exchanges = (dropped - (system is not None and not kept_system)) // 2
    assert prompt == without(exchanges)
    assert len(prompt) <= room or spoken - 2 * exchanges <= 2
    if exchanges and kept_system == (system is not None):
        assert len(without(exchanges - 1)) > room


def test_a_system_message_is_kept_as_long_as_it_can_be() -> None:
    messages = conversation([20, 20, 20, 20, 20], system=20)
    prompt, dropped = fit(TOKENIZER, messages, context_tokens=CONTEXT, answer_tokens=30)
    assert dropped == 4
    assert prompt == render_for_completion(TOKENIZER, {"messages": [messages[0], messages[5]]})
    assert fit(TOKENIZER, messages, context_tokens=60, answer_tokens=30).messages_dropped == 5


def test_a_long_last_message_gets_a_shorter_answer() -> None:
    prompt, dropped = fit(TOKENIZER, conversation([90], None), context_tokens=CONTEXT, answer_tokens=50)
    assert (len(prompt), dropped) == (94, 0)


def test_a_message_that_cannot_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="a prompt of 100 tokens"):
        fit(TOKENIZER, conversation([5, 5, 96], None), context_tokens=CONTEXT, answer_tokens=1)


def test_what_is_no_conversation_is_refused_as_ever() -> None:
    with pytest.raises(DataError, match="roles must alternate"):
        fit(TOKENIZER, [{"role": "assistant", "content": ""}], context_tokens=9, answer_tokens=1)
