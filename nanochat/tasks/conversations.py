"""Reading conversations from JSON lines, plain or gzipped, with the file and line of every defect."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from artifacts.errors import DataError, ResourceError
from nanochat.tasks.task import Conversation

PART_TYPES = ("text", "python", "python_output")


def load_jsonl(path: Path) -> list[Conversation]:
    """Conversations ``{"messages": [{"role", "content"}, …]}``, one a line; blank lines are skipped.

    After an optional system message, user and assistant alternate, user first, assistant last.
    Raises ResourceError for a missing file, DataError with file:line for anything else.
    """
    return [_validated(line, f"{path}:{number}") for number, line in _lines(path)]


def _lines(path: Path) -> list[tuple[int, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            return [(number, line) for number, line in enumerate(file, 1) if line.strip()]
    except FileNotFoundError:
        raise ResourceError(f"{path}: no such file") from None
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from None


def _validated(line: str, where: str) -> Conversation:
    try:
        messages = json.loads(line)["messages"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise DataError(f'{where} is not an object with "messages"') from None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise DataError(f"{where}: messages is not a list of objects")
    roles = [message.get("role") for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or len(spoken) % 2 or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise DataError(f"{where}: roles are {roles}", "alternate user and assistant, ending with assistant")
    for message in messages:
        if not _is_content(message.get("content"), message["role"]):
            raise DataError(
                f"{where}: content of a {message['role']} message is {message.get('content')!r:.60}"
            )
    return {"messages": [{"role": m["role"], "content": m["content"]} for m in messages]}


def _is_content(content: Any, role: str) -> bool:
    if isinstance(content, str):
        return bool(content.strip())
    return (
        role == "assistant"
        and isinstance(content, list)
        and bool(content)
        and all(
            isinstance(part, dict) and part.get("type") in PART_TYPES and isinstance(part.get("text"), str)
            for part in content
        )
    )
