"""Messages as a prompt that fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanochat.serve.api.errors import ApiError
from nanochat.serve.api.schemas import Message
from nanochat.serve.models import LoadedModel
from nanochat.tokenizer.chat import render_for_completion


def as_conversation(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as they are rendered. ApiError if nobody waits for an answer."""
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


def fit(model: LoadedModel, messages: list[dict[str, Any]], answer_tokens: int) -> tuple[list[int], int]:
    """The prompt, and how many messages, the oldest, were left out so that an answer fits as well."""
    system, rest = (messages[:1], messages[1:]) if messages[0]["role"] == "system" else ([], messages)
    answer_tokens = min(answer_tokens, model.context_tokens // 2)
    for dropped in range(0, len(rest), 2):
        prompt = render_for_completion(model.tokenizer, {"messages": [*system, *rest[dropped:]]})
        if len(prompt) + answer_tokens <= model.context_tokens:
            break
    return prompt, dropped
