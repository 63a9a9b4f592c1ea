"""Documented objects in, question material out: ``tasks/docs/{train,test}.jsonl`` and ``words.txt``.

Test objects come from validation documents only, and their short names and summaries occur in no train
object, so that answering about them takes reading, not remembering.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nanochat.data.docstrings import Entry
from nanochat.data.prose import first_sentence
from nanochat.data.pydocs import Document

ASKED_KINDS = frozenset({"function", "class", "method", "module"})
SUMMARY_CHARS = range(20, 161)
MAX_WORDS = 10_000
MIN_WORD_COUNT = 10
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")
_SUMMARY = re.compile(r"[A-Z][^<>|{}\\=~^]*\.")
_PLAIN_WORD = re.compile(r"(?<![\w.])[a-z]{3,12}(?![\w(])")


def write_objects(folder: Path, documents: Iterable[Document], validation: set[str]) -> dict[str, int]:
    """Write both files below ``folder`` and return how many objects each has."""
    train: list[dict[str, Any]] = []
    test: list[dict[str, Any]] = []
    for document in documents:
        digest = document.sha256
        (test if digest in validation else train).extend(_objects(document.entries, digest))
    taken = {item["short"].lower() for item in train} | {item["summary"] for item in train}
    test = [item for item in test if item["short"].lower() not in taken and item["summary"] not in taken]
    target = folder / "tasks" / "docs"
    target.mkdir(parents=True)
    for name, items in (("train", _unique(train)), ("test", _unique(test))):
        lines = "".join(json.dumps(item, sort_keys=True) + "\n" for item in items)
        (target / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return {"train_objects": len(_unique(train)), "test_objects": len(_unique(test))}


def _objects(entries: Iterable[Entry], digest: str) -> Iterator[dict[str, Any]]:
    for entry in entries:
        summary = first_sentence(entry.text)
        if entry.kind in ASKED_KINDS and is_askable(entry.name) and is_summary(summary):
            yield {
                "name": entry.name, "short": entry.name.rpartition(".")[2], "kind": entry.kind,
                "arguments": list(entry.arguments), "summary": summary, "document": digest,
            }  # fmt: skip


def is_askable(name: str) -> bool:
    """True for the name of something public that a person could import: no private or dunder part."""
    return bool(_NAME.fullmatch(name))


def is_summary(text: str) -> bool:
    """True for one well-formed ASCII sentence of 20 to 160 characters without code or mark-up."""
    return len(text) in SUMMARY_CHARS and text.isascii() and bool(_SUMMARY.fullmatch(text))


def _unique(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({item["name"]: item for item in reversed(items)}.values())[::-1]


def write_words(folder: Path, texts: Iterable[str]) -> int:
    """Write ``words.txt``: the frequent lower-case words of 3 to 12 letters, sorted, one a line."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_PLAIN_WORD.findall(text))
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_WORDS]
    words = sorted(word for word, count in common if count >= MIN_WORD_COUNT)
    (folder / "words.txt").write_text("".join(word + "\n" for word in words), encoding="utf-8")
    return len(words)
