"""Messages as the tokenizer's conversations have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanochat.serve.api.errors import ApiError
from nanochat.serve.api.schemas import Message


def as_conversation(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as they are rendered. ApiError if it is not our turn to answer."""
    if messages[-1].role != "user":
        raise ApiError(400, "the last message is not the user's", code="invalid_value", param="messages")
    return [_as_dict(number, message) for number, message in enumerate(messages)]


def _as_dict(number: int, message: Message) -> dict[str, Any]:
    content: Any = message.content
    if isinstance(content, list):
        content = [{"type": part.type, "text": part.text} for part in content]
        if message.role != "assistant":
            if any(part["type"] != "text" for part in content):
                said = f"message {number}: only the assistant's has other parts than text"
                raise ApiError(400, said, code="invalid_value", param=f"messages.{number}.content")
            content = "".join(part["text"] for part in content)
    return {"role": "system" if message.role == "developer" else message.role, "content": content}
