"""Foreign data: kept as it is, checked, validation chosen once and kept apart from train."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from artifacts.errors import DataError
from nanochat.data.adopt import adopt_folder, link_shards, write_texts
from nanochat.data.folder import Folder
from nanochat.data.shards import Shard, read_shard, write_shard

TEXTS = [f"Text {number}: " + " ".join(f"w{number}x{k}" for k in range(30)) for number in range(40)]


def adopt(source: Path, output: Path, num_shards: int | None = None) -> dict[str, Shard]:
    shards = adopt_folder(Folder(str(source)), output, num_shards)
    return {shard.path: shard for shard in shards or []}


def write_all(source: Path, output: Path, tmp_path: Path) -> list[Shard]:
    return write_texts(
        Folder(str(source)), output, tmp_path, shard_bytes=2000, val_fraction=0.1, val_documents=2
    )


def read(folder: Path, shards: list[Shard], split: str) -> list[str]:
    files = [folder / shard.path for shard in shards if shard.split == split]
    return [text for file in files for group in read_shard(file) for text in group]


def test_a_mirror_keeps_its_bytes_and_the_last_shard_validates(shards_folder: Path, tmp_path: Path) -> None:
    shards = adopt(shards_folder, tmp_path / "out")
    names = sorted(path.name for path in (shards_folder / "pretrain").iterdir())
    assert [shard.split for shard in shards.values()] == ["train"] * (len(names) - 1) + ["val"]
    for name in names:
        path = f"pretrain/{name}"
        assert (tmp_path / "out" / path).read_bytes() == (shards_folder / path).read_bytes()
    assert sum(shard.rows for shard in shards.values()) == 5000


def test_a_manifest_names_the_validation_shard(shards_folder: Path, tmp_path: Path) -> None:
    val = "pretrain/shard_00001.parquet"
    (shards_folder / "manifest.json").write_text(json.dumps({"splits": {"val": [val]}}))
    shards = adopt(shards_folder, tmp_path / "out", num_shards=1)
    assert {path: shard.split for path, shard in shards.items()} == {
        "pretrain/shard_00000.parquet": "train", val: "val",
    }  # fmt: skip
    assert not (tmp_path / "out" / "manifest.json").exists()
    (shards_folder / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match=r"manifest.json does not say"):
        adopt(shards_folder, tmp_path / "out2")


def test_what_belongs_to_a_mirror_is_carried_along(shards_folder: Path, tmp_path: Path) -> None:
    for name in ("chat/a.train.jsonl.gz", "tasks/x/train.jsonl", "words.txt", "README.md"):
        (shards_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shards_folder / name).write_text(name)
    adopt(shards_folder, tmp_path / "out", 1)
    assert (tmp_path / "out/chat/a.train.jsonl.gz").read_text() == "chat/a.train.jsonl.gz"
    assert (tmp_path / "out/tasks/x/train.jsonl").exists()
    assert (tmp_path / "out/words.txt").exists()
    assert not (tmp_path / "out/README.md").exists()


@pytest.mark.criterion("T25")
def test_a_validation_document_that_stands_in_train_is_dropped(tmp_path: Path) -> None:
    for number, texts in enumerate((TEXTS[:10], TEXTS[10:20], [TEXTS[3], *TEXTS[20:30]])):
        write_shard(tmp_path / "in", f"part-{number}.parquet", "train", texts)
    shards = list(adopt(tmp_path / "in", tmp_path / "out").values())
    assert [shard.path for shard in shards] == [f"pretrain/shard_0000{n}.parquet" for n in range(3)]
    assert read(tmp_path / "out", shards, "train") == TEXTS[:20]
    assert read(tmp_path / "out", shards, "val") == TEXTS[20:30]


def test_only_documents_of_train_in_validation_is_refused(tmp_path: Path) -> None:
    for number in range(2):
        write_shard(tmp_path / "in", f"part-{number}.parquet", "train", TEXTS[:5])
    with pytest.raises(DataError, match="every validation document"):
        adopt(tmp_path / "in", tmp_path / "out")


def test_downloads_are_linked_and_the_cache_is_left_alone(tmp_path: Path) -> None:
    cache, output = tmp_path / "cache", tmp_path / "out"
    output.mkdir()
    for number, texts in enumerate((TEXTS[:10], [TEXTS[3], *TEXTS[20:30]])):
        write_shard(cache, f"shard_0000{number}.parquet", "train", texts)
    files = sorted(cache.iterdir())
    before = [file.read_bytes() for file in files]
    shards = link_shards(files, output)
    assert (output / shards[0].path).samefile(files[0])
    assert read(output, shards, "val") == TEXTS[20:30]
    assert [file.read_bytes() for file in files] == before


@pytest.mark.criterion("T22")
def test_a_damaged_shard_of_a_mirror_is_named(shards_folder: Path, tmp_path: Path) -> None:
    file = shards_folder / "pretrain" / "shard_00001.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"shard_00001.parquet, row group 0"):
        adopt(shards_folder, tmp_path / "out")


def test_texts_of_every_kind_become_shards(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    rows = [json.dumps({"text": text, "id": 1}) for text in TEXTS]
    (source / "a.jsonl").write_text("\n".join(rows[:10]) + "\n")
    (source / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(rows[5:20]).encode()))
    (source / "c.txt").write_text(TEXTS[20])
    write_shard(source, "d.parquet", "train", TEXTS[21:40])
    shards = write_all(source, output, tmp_path)
    train, val = read(output, shards, "train"), read(output, shards, "val")
    assert sorted(train + val) == sorted(TEXTS)
    assert len(val) == 4
    assert len(shards) > 3


def test_a_long_text_is_cut_at_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "book.txt").write_text(
        "\n\n".join(f"{n}{text}".replace("w", f"w{n}") for n in range(5) for text in TEXTS)
    )
    shards = write_all(tmp_path / "in", tmp_path / "out", tmp_path)
    assert 4 <= len(read(tmp_path / "out", shards, "train")) <= 20


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"body": 1}\n', r"a.jsonl:2: not a JSON object with a field text"),
        ("a.jsonl", b'{"text": 3}\n', r"a.jsonl:1: text is int"),
        ("a.jsonl", b"nonsense\n", r"a.jsonl:1: not a JSON"),
        ("a.txt", b"abc\xff", r"a.txt: not UTF-8 at byte 3"),
        ("a.txt", b"short", r"1 documents are too few"),
        ("a.parquet", b"PAR1", r"row group 0: damaged"),
    ],
)
def test_bad_texts_are_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        write_all(tmp_path / "in", tmp_path / "out", tmp_path)
