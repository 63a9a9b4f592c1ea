"""Messages become conversations: names of roles, parts of text, whose turn it is."""

from __future__ import annotations

from typing import Any

import pytest

from nanochat.serve.api.errors import ApiError
from nanochat.serve.api.prompts import as_conversation
from nanochat.serve.api.schemas import ChatRequest


def conversation(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return as_conversation(ChatRequest.model_validate({"messages": list(messages)}).messages)


def test_roles_and_parts() -> None:
    parts = [{"type": "python", "text": "1"}, {"type": "text", "text": "2"}]
    assert conversation(
        {"role": "developer", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": parts}, {"role": "user", "content": "b"},
    ) == [
        {"role": "system", "content": "S"}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": parts}, {"role": "user", "content": "b"},
    ]  # fmt: skip


@pytest.mark.parametrize("last", [
    {"role": "assistant", "content": "a"}, {"role": "system", "content": "a"},
    {"role": "user", "content": [{"type": "python", "text": "1"}]},
])  # fmt: skip
def test_refusals(last: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as refusal:
        conversation({"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, last)
    assert refusal.value.status_code == 400
