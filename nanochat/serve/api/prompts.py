"""Messages as the tokenizer's conversations have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanochat.serve.api.errors import ApiError
from nanochat.serve.api.schemas import Message
from nanochat.serve.settings import ServeSettings


def as_conversation(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as they are rendered. ApiError if it is not our turn to answer."""
    if messages[-1].role != "user":
        raise ApiError(400, "the last message is not the user's", code="invalid_value", param="messages")
    return [_as_dict(number, message) for number, message in enumerate(messages)]


def recent(messages: Sequence[Message], settings: ServeSettings) -> list[Message]:
    """The end of a conversation, in whole exchanges, that the server takes; a system message goes last.

    ApiError 400 for what nobody can drop: a last message, or one of the user or the system, that is too long.
    """
    is_system = bool(messages) and messages[0].role in ("system", "developer")
    system, spoken = list(messages[:is_system]), list(messages[is_system:])
    count, chars, start = len(messages), sum(message.chars for message in messages), 0

    def is_too_long() -> bool:
        return count > settings.max_messages or chars > settings.max_total_chars

    while is_too_long() and start + 2 < len(spoken):
        count, chars = count - 2, chars - spoken[start].chars - spoken[start + 1].chars
        start += 2
    if is_too_long() and spoken:
        system, count, chars = [], count - is_system, chars - sum(message.chars for message in system)
    kept = [*system, *spoken[start:]]
    for message in kept:
        if message.role != "assistant" and message.chars > settings.max_message_chars:
            raise _too_long(f"a message has {message.chars} characters; at most {settings.max_message_chars}")
    if is_too_long():
        raise _too_long(f"{chars} characters in the last exchange; at most {settings.max_total_chars}")
    return kept


def _too_long(said: str) -> ApiError:
    return ApiError(400, said, code="string_above_max_length", param="messages")


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
