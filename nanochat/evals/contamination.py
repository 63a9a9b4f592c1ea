"""Which test problems the training text gives away: shards in, operand pairs seen out.

Generated training problems never contain a test pair; this also covers text that nobody generated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from nanochat.tasks.operands import is_test_pair, operand_pairs
from nanochat.tasks.task import Example, Task, plain_text

SPARE = 1.3  # test problems drawn for each one wanted


@dataclass(frozen=True)
class SeenPairs:
    """Test pairs found in the first ``scanned_bytes`` of training text."""

    pairs: frozenset[tuple[int, int]]
    scanned_bytes: int


def scan_training_text(shards: Path, max_bytes: int) -> SeenPairs:
    """Search the training shards of ``shards`` in order, one row group at a time."""
    manifest = json.loads((shards / "manifest.json").read_bytes())
    pairs: set[tuple[int, int]] = set()
    scanned = 0
    for path in manifest["splits"]["train"]:
        file = pq.ParquetFile(shards / path)
        for group in range(file.num_row_groups):
            if scanned >= max_bytes:
                return SeenPairs(frozenset(pairs), scanned)
            text = "\n\n".join(file.read_row_group(group, columns=["text"])["text"].to_pylist())
            pairs.update(pair for pair in operand_pairs(text) if is_test_pair(*pair))
            scanned += len(text.encode())
    return SeenPairs(frozenset(pairs), scanned)


def unseen_examples(task: Task, n: int, seed: int, seen: SeenPairs) -> list[Example]:
    """The first ``n`` test examples that share no operand pair with ``seen`` (fewer if the test is small)."""
    drawn = task.examples("test", int(n * SPARE) if seen.pairs else n, seed)
    kept = [example for example in drawn if not operand_pairs(plain_text(example.conversation)) & seen.pairs]
    return kept[:n]
