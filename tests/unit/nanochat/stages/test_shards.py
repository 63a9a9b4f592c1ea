"""The stage: each source gives the same layout, and its identity is known before it runs."""

from __future__ import annotations

import platform
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from artifacts.errors import UsageError
from nanochat.data import smalltalk
from nanochat.data.shards import read_manifest, read_texts, write_shards
from nanochat.records import read_records
from nanochat.runtime import StageContext
from nanochat.stages import shards as stage
from nanochat.stages.fetch import FetchConfig
from nanochat.stages.shards import ShardsConfig, hub_files, identity_extra, run


@pytest.fixture
def ctx(tmp_path: Path) -> StageContext:
    for name in ("output", "attempt", "scratch"):
        (tmp_path / name).mkdir()
    return StageContext({}, tmp_path / "output", tmp_path / "attempt", tmp_path / "scratch")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    texts = [f"Document number {number}." for number in range(90)]
    train = write_shards(tmp_path / "mirror", texts[:80], "train", 0, 500)
    write_shards(tmp_path / "mirror", texts[80:], "val", len(train), 10_000)
    return tmp_path / "mirror"


def test_pydocs(ctx: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smalltalk, "PACKAGE", "no-such-package")
    summary = run(ctx, ShardsConfig(packages=["email", "unittest"], val_documents=2, shard_bytes=30_000))
    assert summary.metrics["test_objects"] > 0
    assert summary.metrics["text_bytes"] > 50_000
    names = {record["name"] for record in read_records(ctx.attempt / "records.jsonl")}
    assert {"data/rows", "data/bytes"} <= names
    assert read_manifest(ctx.output).source == "pydocs"


def test_a_folder(ctx: StageContext, mirror: Path) -> None:
    run(ctx, ShardsConfig(source="folder", path=str(mirror)))
    assert read_manifest(ctx.output).source == "folder"
    assert len(list(read_texts(ctx.output, "train"))) == 80
    assert len(list(read_texts(ctx.output, "val"))) == 10


def test_a_mirror_replaces_the_hub(ctx: StageContext, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_DATA_MIRROR", str(mirror))
    run(ctx, ShardsConfig(source="hub", num_shards=2))
    manifest = read_manifest(ctx.output)
    assert manifest.source == "mirror"
    assert len(manifest.splits["train"]) == 2
    assert str(mirror) not in (ctx.output / "manifest.json").read_text()


def test_the_hub(ctx: StageContext, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NANOCHAT_DATA_MIRROR", raising=False)
    asked: list[Any] = []

    def fetch_shards(*arguments: Any) -> list[Path]:
        asked.extend(arguments)
        return sorted((mirror / "pretrain").iterdir())

    monkeypatch.setattr("nanochat.data.hub.fetch_shards", fetch_shards)
    run(ctx, ShardsConfig(source="hub", dataset="fineweb-edu", num_shards=3, workers=4))
    assert asked[1:] == [3, 4]
    assert read_manifest(ctx.output).model_extra == {"dataset": "karpathy/fineweb-edu-100b-shuffle"}


def test_files_that_were_fetched_before_give_the_same(
    ctx: StageContext, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NANOCHAT_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path))
    config = ShardsConfig(source="hub", num_shards=2)
    cache, inputs = tmp_path / "downloads" / "karpathy--climbmix-400b-shuffle", {}
    cache.mkdir(parents=True)
    sources = sorted((mirror / "pretrain").iterdir())
    for entry, source in zip(hub_files(config), [*sources[:2], sources[-1]], strict=True):
        shutil.copyfile(source, cache / entry["path"])
        inputs[entry["path"]] = tmp_path / "fetched" / entry["path"]
        inputs[entry["path"]].mkdir(parents=True)
        shutil.copyfile(source, inputs[entry["path"]] / entry["path"])
    summary = run(ctx, config)
    shutil.rmtree(cache)
    (tmp_path / "again").mkdir()
    again = run(replace(ctx, inputs=inputs, output=tmp_path / "again"), config)
    assert again == summary
    assert _content(tmp_path / "again") == _content(ctx.output)
    assert read_manifest(ctx.output).splits["val"] == ["pretrain/shard_06542.parquet"]


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_which_files_the_hub_has_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NANOCHAT_DATA_MIRROR", raising=False)
    entries = hub_files(ShardsConfig(source="hub", dataset="fineweb-edu", num_shards=1))
    name = "karpathy/fineweb-edu-100b-shuffle"
    assert [FetchConfig(**entry) for entry in entries] == [
        FetchConfig(dataset=name, path="shard_00000.parquet"),
        FetchConfig(dataset=name, path="shard_01822.parquet"),
    ]
    assert len(hub_files(ShardsConfig(source="hub"))) == 9
    assert hub_files(ShardsConfig()) == hub_files(ShardsConfig(source="folder", path="here")) == []
    monkeypatch.setenv("NANOCHAT_DATA_MIRROR", "somewhere")
    assert hub_files(ShardsConfig(source="hub")) == []


def test_identity_of_the_default_is_names_and_versions() -> None:
    extra = identity_extra(ShardsConfig(packages=["json", "click"]))
    assert extra["python"] == platform.python_version()
    assert list(extra["packages"]) == ["click"]
    assert extra != identity_extra(ShardsConfig(packages=["json"]))


def test_identity_of_a_folder_is_what_lies_in_it(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ShardsConfig(source="folder", path=str(mirror))
    before = identity_extra(config)
    monkeypatch.setenv("NANOCHAT_DATA_MIRROR", str(mirror))
    assert identity_extra(ShardsConfig(source="hub")) == before
    (mirror / "pretrain" / "shard_00000.parquet").unlink()
    assert identity_extra(config) != before
    monkeypatch.delenv("NANOCHAT_DATA_MIRROR")
    assert identity_extra(ShardsConfig(source="hub")) == {}


def test_where_a_folder_lies_is_not_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = ShardsConfig(source="folder", path="here")
    assert config.path == str(tmp_path / "here")
    assert config.identity() == ShardsConfig(source="folder", path="s3://there/x").identity()


@pytest.mark.parametrize(
    "values", [{"source": "web"}, {"shard_bytes": 1}, {"val_fraction": 0}, {"num_shards": 0}, {"x": 1}]
)
def test_bounds(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ShardsConfig(**values)


def test_a_folder_needs_a_path() -> None:
    with pytest.raises(UsageError, match="path is not set"):
        identity_extra(ShardsConfig(source="folder"))


@pytest.mark.shared_data
def test_the_real_mirror(ctx: StageContext) -> None:
    run(ctx, ShardsConfig(source="hub", num_shards=1))
    manifest = read_manifest(ctx.output)
    assert manifest.splits["val"] == ["pretrain/shard_00004.parquet"]
    assert sum(shard.rows for shard in manifest.shards) == 13754 + 3698
    assert (ctx.output / "words.txt").is_file()


def test_the_stage_file_is_light() -> None:
    assert not {"pa", "pq", "httpx"} & set(vars(stage))
