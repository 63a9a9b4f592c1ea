"""Reading token shards: numbering through shards, and refusal of what does not fit its description."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from artifacts.errors import DataError
from nanochat.data import token_shards
from nanochat.data.token_shards import TokenShards


def write(folder: Path, index: int, documents: list[list[int]], split: str = "train") -> Path:
    stem = folder / f"shard_{index:05}"
    np.save(f"{stem}.tokens.npy", np.array([token for doc in documents for token in doc], np.uint16))
    np.save(f"{stem}.offsets.npy", np.cumsum([0, *map(len, documents)], dtype=np.int64))
    about = {"schema": 1, "split": split, "rows": len(documents), "tokens": sum(map(len, documents))}
    stem.with_suffix(".json").write_text(json.dumps(about))
    return stem


def test_documents_are_numbered_through_the_shards_of_a_split_by_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(token_shards, "MAX_OPEN_SHARDS", 1)
    write(tmp_path, 2, [[7], [8, 9]])
    write(tmp_path, 0, [[1, 2, 3], []])
    write(tmp_path, 1, [[5]], "val")
    write(tmp_path, 3, [])
    shards = TokenShards(tmp_path, "train")
    assert (shards.rows, shards.tokens) == ([2, 2], 6)
    assert [shards.read(number).tolist() for number in range(4)] == [[1, 2, 3], [], [7], [8, 9]]
    assert shards.lengths(np.array([3, 0, 1, 2, 0])).tolist() == [2, 3, 0, 1, 3]
    assert shards.lengths(np.array([], np.int64)).tolist() == []
    assert [shards.read(0, 1, 2).tolist(), shards.read(3, 1, 1).tolist()] == [[2, 3], [9]]
    assert shards.read(0).dtype == shards.dtype == np.uint16


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_split_without_documents_is_an_error(tmp_path: Path, split: str) -> None:
    write(tmp_path, 0, [[1]])
    write(tmp_path, 1, [], "val")
    with pytest.raises(DataError, match=f"no token shard of split '{split}' among 2 shards"):
        TokenShards(tmp_path, split)


def missing(stem: Path) -> None:
    stem.with_suffix(".tokens.npy").unlink()


def truncated(stem: Path) -> None:
    path = stem.with_suffix(".tokens.npy")
    path.write_bytes(path.read_bytes()[:-1])


def empty(stem: Path) -> None:
    stem.with_suffix(".offsets.npy").write_bytes(b"")


def pickled(stem: Path) -> None:
    np.save(stem.with_suffix(".tokens.npy"), np.array([{}], dtype=object), allow_pickle=True)


def unordered(stem: Path) -> None:
    np.save(stem.with_suffix(".offsets.npy"), np.array([0, 3, 2, 4]))


def short(stem: Path) -> None:
    np.save(stem.with_suffix(".offsets.npy"), np.array([0, 1, 3]))


def swapped(stem: Path) -> None:
    np.save(stem.with_suffix(".offsets.npy"), np.array([0, 1, 4]))


@pytest.mark.parametrize("damage", [missing, truncated, empty, pickled, unordered, short, swapped])
def test_a_damaged_shard_is_named(tmp_path: Path, damage) -> None:
    write(tmp_path, 0, [[1], [2]])
    damage(write(tmp_path, 1, [[1], [2, 3], [4]]))
    with pytest.raises(DataError, match="shard_00001"):
        TokenShards(tmp_path, "train")
