"""Conversations as ids and masks, piece by piece."""

from __future__ import annotations

from typing import Any

import pytest

from artifacts.errors import DataError
from nanochat.tokenizer.chat import render_conversation, render_for_completion
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer


def conversation(*contents: Any, system: str | None = None) -> dict[str, Any]:
    roles = ("user", "assistant") * len(contents)
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return {"messages": messages}


TOOL_CALL = [
    {"type": "text", "text": "Let me see: "},
    {"type": "python", "text": "37 + 45"},
    {"type": "python_output", "text": "82"},
    {"type": "text", "text": "The answer is 82."},
]


def shown(tokenizer: Tokenizer, ids: list[int], mask: list[int]) -> list[tuple[str, int]]:
    """Runs of equal mask, as text."""
    runs: list[tuple[list[int], int]] = []
    for id_, trained in zip(ids, mask, strict=True):
        if runs and runs[-1][1] == trained:
            runs[-1][0].append(id_)
        else:
            runs.append(([id_], trained))
    return [(tokenizer.decode(run), trained) for run, trained in runs]


def test_what_is_trained_on(tokenizer: Tokenizer) -> None:
    ids, mask = render_conversation(tokenizer, conversation("What is 37 + 45?", TOOL_CALL, "Thanks", "Sure"))
    assert shown(tokenizer, ids, mask) == [
        ("<|bos|><|user_start|>What is 37 + 45?<|user_end|><|assistant_start|>", 0),
        ("Let me see: <|python_start|>37 + 45<|python_end|>", 1),
        ("<|output_start|>82<|output_end|>", 0),
        ("The answer is 82.<|assistant_end|>", 1),
        ("<|user_start|>Thanks<|user_end|><|assistant_start|>", 0),
        ("Sure<|assistant_end|>", 1),
    ]


def test_each_text_is_encoded_by_itself(tokenizer: Tokenizer) -> None:
    special = tokenizer.special
    ids, _ = render_conversation(tokenizer, conversation("the", "answer"))
    assert ids == [
        special("bos"), special("user_start"), *tokenizer.encode("the"), special("user_end"),
        special("assistant_start"), *tokenizer.encode("answer"), special("assistant_end"),
    ]  # fmt: skip


def test_the_system_message_joins_the_first_user_message(tokenizer: Tokenizer) -> None:
    with_system = conversation("Hello", "Hi", "Bye", system="Be kind.")
    ids, mask = render_conversation(tokenizer, with_system)
    assert (ids, mask) == render_conversation(tokenizer, conversation("Be kind.\n\nHello", "Hi", "Bye"))
    assert with_system == conversation("Hello", "Hi", "Bye", system="Be kind.")


@pytest.mark.parametrize("max_tokens", [0, 1, 7, 20, 10_000])
def test_ids_and_mask_are_cut(tokenizer: Tokenizer, max_tokens: int) -> None:
    whole_ids, whole_mask = render_conversation(tokenizer, conversation("What is 37 + 45?", TOOL_CALL))
    ids, mask = render_conversation(tokenizer, conversation("What is 37 + 45?", TOOL_CALL), max_tokens)
    assert ids == whole_ids[:max_tokens]
    assert mask == whole_mask[:max_tokens]


def test_completion_starts_where_the_assistant_speaks(tokenizer: Tokenizer) -> None:
    expected = "<|bos|><|user_start|>A<|user_end|><|assistant_start|>B<|assistant_end|>"
    expected += "<|user_start|>C<|user_end|><|assistant_start|>"
    answered, open_ = conversation("A", "B", "C", TOOL_CALL), conversation("A", "B", "C")
    assert tokenizer.decode(render_for_completion(tokenizer, answered)) == expected
    assert render_for_completion(tokenizer, open_) == render_for_completion(tokenizer, answered)
    ids, mask = render_conversation(tokenizer, answered)
    prompt = render_for_completion(tokenizer, answered)
    assert ids[: len(prompt)] == prompt
    assert mask[len(prompt)] == 1


@pytest.mark.criterion("T27")
@pytest.mark.parametrize("special", SPECIAL_TOKENS)
@pytest.mark.parametrize("around", ["{} then text", "text {} text", "text then {}"])
def test_typed_special_tokens_never_steer_a_conversation(
    tokenizer: Tokenizer, special: str, around: str
) -> None:
    text = around.format(special)
    parts = [{"type": kind, "text": text} for kind in ("text", "python", "python_output")]
    ids, _ = render_conversation(tokenizer, conversation(text, parts, system=text))
    control = [id_ for id_ in ids if id_ >= len(tokenizer.tokens)]
    assert control == [tokenizer.special(name) for name in (
        "bos", "user_start", "user_end", "assistant_start", "python_start", "python_end",
        "output_start", "output_end", "assistant_end",
    )]  # fmt: skip
    prompt = render_for_completion(tokenizer, conversation(text))
    assert sum(id_ >= len(tokenizer.tokens) for id_ in prompt) == 4


USER = {"role": "user", "content": "Hello"}
ASSISTANT = {"role": "assistant", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (None, "no list of messages"),
        ([], "no list of messages"),
        ([ASSISTANT], "message 0 has the role 'assistant', not 'user'"),
        ([USER, USER], "message 1 has the role 'user', not 'assistant'"),
        ([SYSTEM, USER, ASSISTANT, ASSISTANT], "message 3 has the role 'assistant', not 'user'"),
        ([USER, SYSTEM], "message 1 has the role 'system', not 'assistant'"),
        ([SYSTEM, SYSTEM, USER], "message 1 has the role 'system', not 'user'"),
        ([SYSTEM], "message 0 is a system message with no user message"),
        ([{"role": "tool", "content": "x"}], "message 0 has the role 'tool', not 'user'"),
        ([USER, "Hi"], "message 1 is 'Hi': no object with role and content"),
        ([USER, {"role": "assistant"}], "message 1 is"),
        ([{"role": "user", "content": TOOL_CALL}], "message 0: content is"),
        ([USER, {"role": "assistant", "content": None}], "message 1: content is None, not text"),
        ([USER, {"role": "assistant", "content": [{"type": "image", "text": ""}]}], "message 1, part 0 is"),
        ([USER, {"role": "assistant", "content": [TOOL_CALL[0], {"type": "text"}]}], "message 1, part 1 is"),
        ([USER, {"role": "assistant", "content": ["Hi"]}], "message 1, part 0 is 'Hi'"),
    ],
)
def test_a_malformed_conversation_names_its_message(
    tokenizer: Tokenizer, messages: Any, message: str
) -> None:
    for render in (render_conversation, render_for_completion):
        with pytest.raises(DataError) as caught:
            render(tokenizer, {"messages": messages})
        assert message in str(caught.value)


def test_something_else_than_a_conversation(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="no list of messages"):
        render_conversation(tokenizer, [USER])  # type: ignore[arg-type]
