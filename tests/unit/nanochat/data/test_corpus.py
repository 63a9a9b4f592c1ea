"""The default corpus on disk: the promised layout, the same bytes again, and splits apart (T25)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts.errors import DataError
from nanochat.data import smalltalk
from nanochat.data.corpus import write_pydocs
from nanochat.data.shards import read_manifest, read_texts

PACKAGES = ["argparse", "asyncio", "email", "http", "json", "logging", "unittest", "click"]


def write(folder: Path, packages: list[str], max_bytes: int | None = None) -> dict[str, int]:
    folder.mkdir()
    return write_pydocs(
        folder, packages, workers=1, shard_bytes=100_000, max_bytes=max_bytes, val_fraction=0.1,
        val_documents=5,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def no_smalltalk() -> Iterator[None]:
    """It has its own tests, and takes longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smalltalk, "PACKAGE", "no-such-package")
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "a"
    write(folder, PACKAGES)
    return folder


def test_the_layout(corpus: Path) -> None:
    manifest = read_manifest(corpus)
    assert len(manifest.splits["train"]) > 2
    assert len(manifest.splits["val"]) == 1
    assert set(json.loads((corpus / "manifest.json").read_text())["packages"]) == {"click"}
    for shard in manifest.shards:
        assert hashlib.sha256((corpus / shard.path).read_bytes()).hexdigest() == shard.sha256
    assert (corpus / "words.txt").stat().st_size > 1000


def test_the_same_installation_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    write(tmp_path / "b", PACKAGES)
    files = [path.relative_to(corpus) for path in sorted(corpus.rglob("*")) if path.is_file()]
    assert files
    assert [p for p in files if (corpus / p).read_bytes() != (tmp_path / "b" / p).read_bytes()] == []


@pytest.mark.criterion("T25")
def test_train_and_validation_share_no_document(corpus: Path) -> None:
    train, val = (
        [hashlib.sha256(text.encode()).hexdigest() for text in read_texts(corpus, split)]
        for split in ("train", "val")
    )
    assert len(val) >= 5
    assert len(set(train + val)) == len(train) + len(val)


def test_test_objects_stand_in_validation_documents(corpus: Path) -> None:
    val = {hashlib.sha256(text.encode()).hexdigest() for text in read_texts(corpus, "val")}
    objects = {
        split: [json.loads(line) for line in (corpus / f"tasks/docs/{split}.jsonl").read_text().splitlines()]
        for split in ("train", "test")
    }
    assert {item["document"] for item in objects["test"]} <= val
    assert not {item["document"] for item in objects["train"]} & val
    names = {item["short"].lower() for item in objects["train"]}
    assert objects["test"]
    assert [item["short"] for item in objects["test"] if item["short"].lower() in names] == []


def test_max_bytes_bounds_the_text(tmp_path: Path) -> None:
    assert write(tmp_path / "b", PACKAGES[:3], max_bytes=100_000)["text_bytes"] <= 100_000


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few"):
        write(tmp_path / "b", ["this"])
