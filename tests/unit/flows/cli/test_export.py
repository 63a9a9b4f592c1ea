"""``nanochat export``: what is written for whom, and what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts.store import Store
from flows.adopt import adopt
from nanochat.config.derive import Dials, model_shape
from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import Tokenizer
from nanochat.train.loop import Curve
from nanochat.train.model_folder import save_model

Cli = Callable[..., Any]


@pytest.fixture
def models(tokenizer_store: Store, tokenizer_folder: Path, tmp_path: Path) -> Store:
    """A store with tokenizer/real, base/hf of the shape that transformers knows, and base/current."""
    vocab = Tokenizer.load(tokenizer_folder).vocab_size
    for arch in ("hf", "current"):
        dials = Dials(arch=arch, depth=2, vocab_size=vocab, seq_len=64, aspect_ratio=16, head_dim=16)
        model = GPT(model_shape(dials), torch.float32)
        model.init_weights()
        folder = tmp_path / arch
        folder.mkdir()
        about = {"stage": "base", "steps": 1}
        save_model(model, folder, tokenizer_folder / "tokenizer.json", Curve("val_bpb"), about)
        adopt(tokenizer_store, f"base/{arch}", folder)
    return tokenizer_store


def test_whether_code_is_to_be_trusted_is_said(cli: Cli, models: Store, tmp_path: Path) -> None:
    known = cli("export", "base/hf", "--format", "hf", "--output", str(tmp_path / "a")).out
    assert "stock transformers loads it as NanoChatForCausalLM" in known
    other = cli("export", "base/current", "--format", "hf", "-o", str(tmp_path / "b")).out
    assert "base/current@v1 is in " in other
    assert "it needs trust_remote_code=True" in other
    assert "value embeddings, residual scalars, smear, backout" in other
    assert "trust_remote_code" not in known
    assert (tmp_path / "b" / "modeling_nanochat_pipeline.py").is_file()


def test_json_says_the_same(cli: Cli, models: Store, tmp_path: Path) -> None:
    said = json.loads(
        cli("export", "base/current", "--format", "hf", "-o", str(tmp_path / "b"), "--json").out
    )
    assert (said["artifact"], said["trust_remote_code"]) == ("base/current@v1", True)
    assert said["beyond_stock"][0] == "value embeddings"
    assert "README.md" in said["files"]


@pytest.mark.parametrize("format", ["tokenizer-json", "tiktoken"])
def test_tokenizers_go_too(format: str, cli: Cli, models: Store, tmp_path: Path) -> None:
    for ref in ("tokenizer/real", "base/hf"):
        out = cli("export", ref, "--format", format, "-o", str(tmp_path / ref)).out
        assert f"as {format}" in out
        assert "trust" not in out


def test_mistakes_are_one_line(cli: Cli, models: Store, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    for arguments, rc, said in (
        (("base/hf", "--format", "hf", "-o", str(tmp_path / "there")), 2, "exists (name a new folder)"),
        (("tokenizer/real", "--format", "hf", "-o", str(tmp_path / "a")), 2, "tokenizer/real@v1 is no model"),
        (("base/absent", "--format", "hf", "-o", str(tmp_path / "a")), 4, "absent"),
        (("base/hf", "--format", "gguf", "-o", str(tmp_path / "a")), 2, "gguf"),
        (("base/hf", "--format", "hf"), 2, "output"),
    ):
        error = cli("export", *arguments, rc=rc).err
        assert said in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "a").exists()
