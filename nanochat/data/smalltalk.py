"""Real small talk out of the optional PyPI package ``chitchat-dataset``, as chat files.

The package is data with a loader around it; only its file is read, the package is never imported.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from artifacts.errors import DataError

PACKAGE = "chitchat-dataset"
TEST_PERCENT = 5
MIN_MESSAGES = 4
MAX_MESSAGE_CHARS = 600


def smalltalk_version() -> str | None:
    """Version of the installed data package; None when the extra ``demo-data`` is not installed."""
    try:
        return distribution(PACKAGE).version
    except PackageNotFoundError:
        return None


def write_smalltalk(folder: Path) -> dict[str, int]:
    """Write ``chat/chitchat.{train,test}.jsonl.gz`` below ``folder``; nothing when the package is absent."""
    if smalltalk_version() is None:
        return {}
    splits: dict[str, list[str]] = {"train": [], "test": []}
    for name, line in _conversations():
        percent = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % 100
        splits["test" if percent < TEST_PERCENT else "train"].append(line)
    (folder / "chat").mkdir()
    for split, lines in splits.items():
        payload = "".join(line + "\n" for line in lines).encode()
        (folder / "chat" / f"chitchat.{split}.jsonl.gz").write_bytes(gzip.compress(payload, 1, mtime=0))
    return {f"chitchat_{split}": len(lines) for split, lines in splits.items()}


def _conversations() -> Iterator[tuple[str, str]]:
    """Name and JSON line of each suitable conversation, no line twice."""
    files = [file for file in distribution(PACKAGE).files or () if file.name == "dataset.json"]
    if not files:
        raise DataError(f"package {PACKAGE} has no dataset.json", "run: make setup")
    raw = json.loads(Path(str(files[0].locate())).read_text(encoding="utf-8"))
    seen: set[str] = set()
    for name in sorted(raw):
        messages = _alternating(raw[name])
        line = json.dumps({"messages": messages}, ensure_ascii=True)
        if len(messages) >= MIN_MESSAGES and line not in seen:
            seen.add(line)
            yield name, line


def _alternating(conversation: dict[str, Any]) -> list[dict[str, str]]:
    """Consecutive messages of one speaker joined; first user, last assistant; empty if unsuitable."""
    speakers: list[str] = []
    texts: list[str] = []
    for message in (message for turn in conversation["messages"] for message in turn):
        text = " ".join(message["text"].split())
        if not text:
            continue
        if speakers and speakers[-1] == message["sender"]:
            texts[-1] += " " + text
        else:
            speakers.append(message["sender"])
            texts.append(text)
    if len(set(speakers)) > 2 or any(len(t) > MAX_MESSAGE_CHARS or "http" in t or "@" in t for t in texts):
        return []
    texts = texts[: len(texts) // 2 * 2]
    return [{"role": ("user", "assistant")[turn % 2], "content": text} for turn, text in enumerate(texts)]
