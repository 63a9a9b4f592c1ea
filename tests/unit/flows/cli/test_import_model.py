"""``nanochat import``: a checkpoint of nanochat becomes an artifact, if its pickles may be read."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts.store import Store
from flows.settings import Settings
from nanochat.config.derive import Dials, model_shape
from nanochat.engine.model_folder import open_model
from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import Tokenizer
from tests.unit.nanochat.export.hostile import Calls
from tests.unit.nanochat.export.upstream_files import write_checkpoint

Cli = Callable[..., Any]


@pytest.fixture
def model(tokenizer_folder: Path) -> GPT:
    vocab = Tokenizer.load(tokenizer_folder).vocab_size
    made = GPT(model_shape(Dials(depth=2, vocab_size=vocab, seq_len=64, aspect_ratio=16, head_dim=16)))
    torch.manual_seed(0)
    made.init_weights()
    return made


@pytest.fixture
def checkpoint(model: GPT, tokenizer_folder: Path, tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "d2", model, Tokenizer.load(tokenizer_folder))


def test_without_leave_no_pickle_is_read(cli: Cli, checkpoint: Path, home: Path) -> None:
    ended = cli("import", str(checkpoint), "--name", "theirs", rc=2)
    assert len(ended.err.splitlines()) == 1
    assert "model_000007.pt and" in ended.err
    assert "are pickles, which can carry programs (if you trust who made them: --allow-pickle;" in ended.err
    assert not home.exists()


@pytest.mark.parametrize("kind", ["base", "sft"])
def test_with_leave_it_is_an_artifact_that_chats(kind: str, cli: Cli, checkpoint: Path, model: GPT) -> None:
    command = ("import", str(checkpoint), "--name", "theirs", "--kind", kind, "--allow-pickle")
    ended = cli(*command)
    assert ended.err.startswith("warning: model_000007.pt and tokenizer.pkl are pickles")
    assert f"{kind}/theirs@v1 is step 7 of " in ended.out
    store = Store.open(create=False)
    folder = store.checkout(store.resolve(f"{kind}/theirs")[1], Settings().views)
    tokens = torch.arange(20)[None]
    assert torch.equal(open_model(folder)[0](tokens), model(tokens))
    assert json.loads(cli(*command, "--json").out)["artifact"] == f"{kind}/theirs@v1"
    assert json.loads(cli(*command, "--json", "--force").out)["artifact"] == f"{kind}/theirs@v1"
    assert store.verify() == []
    assert cli("chat", f"{kind}/theirs", "-p", "hi", "--max-tokens", "2").err == ""
    assert [path.name for path in Settings().home.glob(".tmp-*")] == []


def test_a_program_in_it_is_refused_and_nothing_is_stored(cli: Cli, checkpoint: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (checkpoint / "tokenizer.pkl").write_bytes(pickle.dumps(Calls(os.system, f"touch {mark}")))
    ended = cli("import", str(checkpoint), "--name", "theirs", "--allow-pickle", rc=3)
    said = "its pickle asks for 'posix.system', which is not allowed (nothing of it was run)"
    assert ended.err.splitlines()[-1] == f"error: tokenizer.pkl: {said}"
    assert not mark.exists()
    assert "theirs" not in cli("art", "ls").out
    assert [path.name for path in Settings().home.glob(".tmp-*")] == []


def test_what_is_missing_is_one_line(cli: Cli, checkpoint: Path, tmp_path: Path) -> None:
    assert "is no folder" in cli("import", str(tmp_path / "absent"), "--name", "x", rc=4).err
    assert "steps that are there: 7" in cli("import", str(checkpoint), "--name", "x", "--step", "8", rc=4).err
    error = cli("import", str(checkpoint), "--name", "a b", "--allow-pickle", rc=2).err
    assert "a b" in error
