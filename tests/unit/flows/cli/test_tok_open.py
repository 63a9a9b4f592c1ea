"""Which tokenizer a command takes: an artifact's, a path's, that of the last run, the newest; or none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.listing import listing
from artifacts.store import Store
from flows.adopt import adopt
from flows.history import History
from flows.params import PipelineParams
from flows.result import result_of
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.tokenizer.training import train_on_texts

Cli = Callable[..., Any]
Damage = Callable[..., Path]


def taken(cli: Cli, *arguments: str) -> str:
    """What the tokenizer is called that the command takes."""
    return str(json.loads(cli("tok", "encode", "x", *arguments, "--json").out)["tokenizer"])


def add(store: Store, folder: Path, name: str, vocab_size: int) -> None:
    other = Path(shutil.copytree(folder, folder.with_name(name)))
    train_on_texts(["words and words"], vocab_size).save(other)
    adopt(store, f"tokenizer/{name}", other)


def test_an_artifact_by_any_of_its_names(cli: Cli, tokenizer_store: Store) -> None:
    digest = tokenizer_store.resolve("tokenizer/real")[1].digest
    for ref in (
        "tokenizer/real",
        "tokenizer/real@v1",
        "tokenizer/real@latest",
        f"tokenizer/real@sha256:{digest[:12]}",
    ):
        assert taken(cli, "--ref", ref) == "tokenizer/real@v1"
    tokenizer_store.set_alias("tokenizer/real", "prod")
    assert taken(cli, "--ref", "tokenizer/real@prod") == "tokenizer/real@v1"


def test_a_path(cli: Cli, tokenizer_folder: Path) -> None:
    assert taken(cli, "--tokenizer", str(tokenizer_folder)) == str(tokenizer_folder)
    assert (
        taken(cli, "--tokenizer", f"{tokenizer_folder}/tokenizer.json")
        == f"{tokenizer_folder}/tokenizer.json"
    )


@pytest.mark.parametrize("newest", ["real", "another"])
def test_the_newest_where_nothing_was_run(
    newest: str, cli: Cli, tokenizer_store: Store, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taken(cli) == "tokenizer/real@v1"
    add(tokenizer_store, tokenizer_folder, "another", 267)
    listed = [
        item._replace(entry=item.entry._replace(created=str(int(item.ref.name == newest))))
        for item in listing(tokenizer_store.backend, "tokenizer")
    ]  # made in one second, they are told apart by nothing else
    monkeypatch.setattr("flows.cli.tok_open.listing", lambda *_: listed)
    assert taken(cli) == f"tokenizer/{newest}@v1"


def test_that_of_the_last_run(cli: Cli, tokenizer_store: Store, tokenizer_folder: Path, home: Path) -> None:
    history = History(home / "runs", PipelineParams(preset="tiny"))
    manifest = tokenizer_store.resolve("tokenizer/real")[1].model_copy(update={"stage": "tokenizer"})
    add(tokenizer_store, tokenizer_folder, "another", 267)
    history.finished(result_of(manifest, "cached", "tokenizer/real@v1", seconds=0.0))
    assert taken(cli) == "tokenizer/real@v1"
    assert cli("tok", "view", "x").err == "tokenizer/real@v1\n"
    assert cli("tok", "view", "x", "--ref", "tokenizer/another").err == ""


def test_without_a_store_or_a_tokenizer_there_is_a_way_to_one(cli: Cli, home: Path) -> None:
    for rc_and_said in ("is not a store", "no tokenizer in"):
        ended = cli("tok", "view", "x", rc=4)
        assert rc_and_said in ended.err
        assert "nanochat tok train" in ended.err
        assert "--tokenizer PATH" in ended.err
        assert ended.err.count("\n") == 1
        Store.open()
    assert "nanochat run demo" in ended.err


@pytest.mark.parametrize(
    ("arguments", "rc", "said"),
    [
        (("--ref", "tokenizer/none"), 4, "tokenizer/none"),
        (("--ref", "real"), 2, "ref 'real' is incomplete"),
        (("--tokenizer", "nowhere"), 4, "nowhere: no such file or folder"),
        (("--tokenizer", "."), 4, "no tokenizer at tokenizer.json"),
        (("--tokenizer", "bad.json"), 3, "tokenizer bad.json: "),
        (("--ref", "tokenizer/real", "--tokenizer", "bad.json"), 2, "exclude each other"),
    ],
)  # fmt: skip
def test_what_is_no_tokenizer_is_one_line(
    arguments: tuple[str, ...], rc: int, said: str, cli: Cli, tokenizer_store: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    ended = cli("tok", "encode", "x", *arguments, rc=rc)
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_an_artifact_that_holds_none_is_refused(cli: Cli, small_home: Path) -> None:
    ended = cli("tok", "encode", "x", "--ref", "base/demo", rc=2)
    assert ended.err.startswith("error: base/demo@v1 holds no tokenizer (kinds that do: tokenizer, base")


def test_a_damaged_tokenizer_is_refused(cli: Cli, tokenizer_store: Store, damage: Damage) -> None:
    damage("tokenizer/real@v1", "tokenizer.json")
    assert "tokenizer/real@v1 is damaged" in cli("tok", "encode", "x", "--ref", "tokenizer/real", rc=3).err


def test_it_is_the_tokenizer_of_the_artifact(
    cli: Cli, tokenizer_store: Store, tokenizer_folder: Path
) -> None:
    said = json.loads(cli("tok", "encode", "the answer", "--json").out)
    assert said["ids"] == Tokenizer.load(tokenizer_folder).encode("the answer")
