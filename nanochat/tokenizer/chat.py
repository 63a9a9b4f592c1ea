"""Conversations as token ids, with a mask of what the assistant is trained to say.

| piece                                       | mask |
|---------------------------------------------|------|
| bos, user_start … user_end, assistant_start | 0    |
| text, assistant_end                         | 1    |
| python_start, expression, python_end        | 1    |
| output_start, result, output_end            | 0    |

A system message is joined to the first user message with a blank line. Text is encoded as ordinary
text, so nothing that is written in a message can open or end a turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from artifacts.errors import DataError
from nanochat.tokenizer.tokenizer import Tokenizer

Conversation = Mapping[str, Any]
Part = tuple[str, str]  # type, text
Turn = tuple[str, list[Part]]  # role, parts

TOOL_TOKENS = {"python": "python", "python_output": "output"}  # part type -> NAME_start and NAME_end


def render_conversation(
    tokenizer: Tokenizer, conversation: Conversation, max_tokens: int | None = None
) -> tuple[list[int], list[int]]:
    """The ids of a conversation and, for each, 1 if it is trained on; both cut to ``max_tokens``.

    conversation: ``{"messages": [{"role", "content"}, …]}``; after an optional system message, user
    and assistant alternate, user first. Raises DataError naming the message.
    """
    ids: list[int] = []
    mask: list[int] = []
    for piece, trained in _render(tokenizer, _turns(conversation)):
        ids += piece
        mask += [trained] * len(piece)
    return ids[:max_tokens], mask[:max_tokens]


def render_for_completion(tokenizer: Tokenizer, conversation: Conversation) -> list[int]:
    """The ids up to where the assistant speaks next; a last assistant message is left out."""
    turns = _turns(conversation)
    if turns[-1][0] == "assistant":
        turns.pop()
    ids = [id_ for piece, _ in _render(tokenizer, turns) for id_ in piece]
    return [*ids, tokenizer.special("assistant_start")]


def _render(tokenizer: Tokenizer, turns: list[Turn]) -> Iterator[tuple[list[int], int]]:
    def special(name: str) -> list[int]:
        return [tokenizer.special(name)]

    yield special("bos"), 0
    for role, parts in turns:
        spoken = int(role == "assistant")
        yield special(f"{role}_start"), 0
        for kind, text in parts:
            trained = 0 if kind == "python_output" else spoken
            if kind == "text":
                yield tokenizer.encode(text), trained
            else:
                yield special(f"{TOOL_TOKENS[kind]}_start"), trained
                yield tokenizer.encode(text), trained
                yield special(f"{TOOL_TOKENS[kind]}_end"), trained
        yield special(f"{role}_end"), spoken


def _turns(conversation: Conversation) -> list[Turn]:
    """The messages as turns of user and assistant, the system message joined to the first one."""
    messages = conversation.get("messages") if isinstance(conversation, Mapping) else None
    if not isinstance(messages, list) or not messages:
        raise DataError(f"conversation {conversation!r:.80}: no list of messages")
    system = ""
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not message.keys() >= {"role", "content"}:
            raise DataError(f"message {index} is {message!r:.80}: no object with role and content")
        role, parts = message["role"], _parts(index, message)
        if role == "system" and index == 0:
            system = parts[0][1] + "\n\n"
            continue
        expected = "assistant" if len(turns) % 2 else "user"
        if role != expected:
            raise DataError(
                f"message {index} has the role {role!r}, not {expected!r}", "roles must alternate"
            )
        turns.append((role, parts))
    if not turns:
        raise DataError("message 0 is a system message with no user message after it")
    first_text = turns[0][1][0][1]
    return [("user", [("text", system + first_text)]), *turns[1:]]


def _parts(index: int, message: Mapping[str, Any]) -> list[Part]:
    content = message["content"]
    if isinstance(content, str):
        return [("text", content)]
    if message["role"] != "assistant" or not isinstance(content, list):
        raise DataError(f"message {index}: content is {content!r:.80}, not text")
    return [_part(f"message {index}, part {number}", part) for number, part in enumerate(content)]


def _part(where: str, part: Any) -> Part:
    kind, text = (part.get("type"), part.get("text")) if isinstance(part, Mapping) else (None, None)
    if kind not in ("text", *TOOL_TOKENS) or not isinstance(text, str):
        raise DataError(
            f"{where} is {part!r:.80}: no object with type (text, python, python_output) and text"
        )
    return kind, text
