"""Folders made elsewhere become artifacts, or are refused with one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from artifacts.atomic import digest_into
from artifacts.errors import DataError, NanochatError, ResourceError, UsageError
from artifacts.manifest import ADOPTED
from artifacts.store import Store
from flows.adopt import adopt
from nanochat.config.model import ModelConfig
from nanochat.data.shards import read_manifest, write_manifest, write_shards
from nanochat.data.token_writer import tokenize_shard
from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.train.loop import Curve
from nanochat.train.model_folder import save_model

MODELS = ("base", "mid", "sft", "rl")


@pytest.fixture(scope="session")
def made_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind, written by the code of the stages."""
    root = tmp_path_factory.mktemp("elsewhere")
    shards, tokens = root / "shards", root / "tokens"
    shards.mkdir()
    entries = write_shards(shards, ["one two", "three"], "train", 0, 1000)
    write_manifest(shards, "folder", [*entries, *write_shards(shards, ["four"], "val", 1, 1000)], {})
    tokenizer = Tokenizer(tuple(bytes([byte]) for byte in range(256)))
    (root / "tokenizer").mkdir()
    tokenizer.save(root / "tokenizer")
    (root / "tokenizer" / "compression.json").write_text('{"schema": 1, "rows": []}')
    tokens.mkdir()
    for shard in read_manifest(shards).shards:
        tokenize_shard(shards, shard, tokens, tokenizer, "0" * 64, 1)
    shape = ModelConfig(
        vocab_size=tokenizer.vocab_size, depth=1, num_heads=1, num_kv_heads=1, width=32, seq_len=16
    )
    model = GPT(shape, torch.float32)
    model.init_weights()
    for kind in MODELS:
        (root / kind).mkdir()
        curve = Curve("val_bpb")
        save_model(model, root / kind, root / "tokenizer/tokenizer.json", curve, {"stage": kind, "steps": 1})
    return root


@pytest.fixture
def elsewhere(made_elsewhere: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_elsewhere, tmp_path / "elsewhere"))


@pytest.fixture
def store(home: Path) -> Store:
    return Store.open()


def contents(folder: Path) -> dict[str, tuple[str, int, int]]:
    return {
        str(path.relative_to(folder)): (digest_into(path), path.stat().st_nlink, path.stat().st_ino)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["shards", "tokenizer", "tokens", *MODELS])
def test_what_a_stage_made_is_adopted_by_copying(
    kind: str, elsewhere: Path, store: Store, tmp_path: Path
) -> None:
    folder = elsewhere / kind
    (folder / "run").mkdir()
    (folder / "run" / "log.txt").write_text("how it was made")
    before = contents(folder)
    ref, manifest = adopt(store, f"{kind}/mine", folder)
    assert str(ref) == f"{kind}/mine@v1"
    assert contents(folder) == before, "the user's files were changed, or linked to"
    view = store.checkout(manifest, tmp_path / "views")
    assert {path: found[0] for path, found in contents(view).items()} == {
        path: found[0] for path, found in before.items()
    }
    assert [entry.path for entry in manifest.run_files] == ["log.txt"]
    assert manifest.metrics[manifest.key_metric] > 0
    assert store.verify() == []
    assert not any((tmp_path / "home" / "store" / "attempts").iterdir())


def test_it_answers_no_stage_and_says_what_it_is(elsewhere: Path, store: Store, tmp_path: Path) -> None:
    ref, manifest = adopt(store, "tokenizer/mine", elsewhere / "tokenizer")
    assert manifest.recipe["extra"] == {"adopted": manifest.digest}
    assert store.lookup("tokenizer", manifest.fingerprint) is None
    assert store.lookup(ADOPTED, manifest.fingerprint) == manifest
    assert manifest.provenance.settings == {"adopted": True}
    assert str(tmp_path) not in manifest.to_bytes().decode()
    assert adopt(store, "tokenizer/mine", elsewhere / "tokenizer") == (ref, manifest)
    other, same = adopt(store, "tokenizer/other", elsewhere / "tokenizer")
    assert (str(other), same) == ("tokenizer/other@v1", manifest)


def test_damage_of_an_adopted_artifact_is_mended_by_adopting_it_again(
    elsewhere: Path, store: Store, tmp_path: Path
) -> None:
    _, manifest = adopt(store, "tokenizer/mine", elsewhere / "tokenizer")
    hint = "adopt it again: nanochat art adopt tokenizer/mine FOLDER --force"
    for key in (f"blobs/sha256/{manifest.files[0].sha256[:2]}/{manifest.files[0].sha256}",
                f"manifests/{manifest.hex}.json"):  # fmt: skip
        path = store.backend.local_path(key)
        assert path is not None
        path.chmod(0o644)
        path.write_bytes(bytes(path.stat().st_size))
        assert {problem.hint for problem in store.verify() if problem.ref.startswith("tok")} == {hint}
        adopt(store, "tokenizer/mine", elsewhere / "tokenizer", force=True)
        assert store.verify("tokenizer/mine") == []


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **values}))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


BROKEN: list[tuple[str, str, Callable[[Path], object]]] = [
    ("shards", "manifest.json", Path.unlink),
    ("shards", "manifest.json", cut),
    ("shards", "manifest.json", lambda path: edit(path, splits={"train": [], "val": []})),
    ("shards", "manifest.json", lambda path: edit(path, splits={"val": ["pretrain/shard_00001.parquet"]})),
    ("shards", "shard_00000.parquet", Path.unlink),
    ("shards", "shard_00000.parquet", cut),
    ("shards", "shard_00001.parquet", flip),
    ("shards", "shard_00001.parquet", lambda path: shutil.copy(path.with_name("shard_00000.parquet"), path)),
    ("tokenizer", "tokenizer.json", Path.unlink),
    ("tokenizer", "tokenizer.json", cut),
    ("tokenizer", "compression.json", Path.unlink),
    ("tokens", "shard_00000.json", cut),
    ("tokens", "shard_00000.json", lambda path: edit(path, rows="2")),
    ("tokens", "shard_00000.json", lambda path: edit(path, rows=1)),
    ("tokens", "shard_00000.json", lambda path: edit(path, split="test")),
    ("tokens", "val", lambda path: path.with_name("shard_00001.json").unlink()),
    ("tokens", "shard_00000.tokens.npy", Path.unlink),
    ("tokens", "shard_00000.tokens.npy", cut),
    ("tokens", "shard_00000.offsets.npy", lambda path: path.write_bytes(b"")),
    ("base", "config.json", cut),
    ("mid", "model.safetensors", Path.unlink),
    ("sft", "model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:50])),
    ("sft", "model.safetensors", cut),
    ("rl", "config.json", Path.unlink),
    ("rl", "config.json", lambda path: edit(path, depth="deep")),
    ("rl", "config.json", lambda path: edit(path, width=64)),
    ("rl", "tokenizer.json", Path.unlink),
    ("base", "losses.json", Path.unlink),
    ("base", "meta.json", lambda path: path.write_text("{}")),
]


@pytest.mark.parametrize(
    ("kind", "file", "damage"), BROKEN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_broken_folder_is_refused_and_nothing_is_stored(
    kind: str, file: str, damage: Callable[[Path], object], elsewhere: Path, store: Store, home: Path
) -> None:
    inside = next((elsewhere / kind).rglob(file), elsewhere / kind / file)
    before = contents(home)
    damage(inside)
    with pytest.raises(DataError) as caught:
        adopt(store, f"{kind}/mine", elsewhere / kind)
    assert file in caught.value.message
    assert "nothing was stored" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert contents(home) == before


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("eval/mine", UsageError, "nanochat eval REF makes one"),
        ("report/mine", UsageError, "nanochat run PRESET makes one"),
        ("tokeniser/mine", UsageError, "did you mean tokenizer"),
        ("tokenizer/mine@v1", UsageError, "says which version"),
        ("tokenizer/mine@latest", UsageError, "says which version"),
        ("tokenizer", UsageError, "incomplete"),
    ],
)
def test_what_cannot_be_adopted(
    name: str, error: type[NanochatError], message: str, elsewhere: Path, store: Store
) -> None:
    with pytest.raises(error, match=message):
        adopt(store, name, elsewhere / "tokenizer")


def test_links_strange_names_and_no_folder_are_refused(elsewhere: Path, store: Store) -> None:
    folder = elsewhere / "tokenizer"
    with pytest.raises(ResourceError, match="is no folder"):
        adopt(store, "tokenizer/mine", folder / "tokenizer.json")
    (folder / "strange name").write_text("x")
    with pytest.raises(DataError, match="strange name"):
        adopt(store, "tokenizer/mine", folder)
    (folder / "strange name").unlink()
    (folder / "link").symlink_to(folder / "tokenizer.json")
    with pytest.raises(DataError, match="link is not a plain file"):
        adopt(store, "tokenizer/mine", folder)
