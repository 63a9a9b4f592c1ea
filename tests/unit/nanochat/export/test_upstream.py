"""nanochat's checkpoints become our models with the same logits, or are refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import torch

from artifacts.errors import DataError, ResourceError
from nanochat.engine.model_folder import open_model
from nanochat.export.upstream import convert, find, read_tokenizer
from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer
from tests.unit.nanochat.export.upstream_files import state_dict, write_checkpoint

PEER = """\
import dataclasses, json, sys, torch
folder, checkout, shape = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
sys.path.insert(0, checkout)
from nanochat.checkpoint_manager import save_checkpoint
from nanochat.gpt import GPT, GPTConfig
from nanochat.tokenizer import RustBPETokenizer
texts = ["What is 37 + 45? It's naive, don't say so, and so on; the answer of the day is this."]
tokenizer = RustBPETokenizer.train_from_iterator(iter(texts * 4), 300)
tokenizer.save(folder)
torch.manual_seed(0)
config = GPTConfig(vocab_size=tokenizer.get_vocab_size(), **shape)
model = GPT(config)
model.init_weights()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    model.lm_head.weight.mul_(6)
    tokens = torch.randint(0, config.vocab_size, (2, 500))
    logits = model.eval()(tokens)
meta = {"step": 3, "val_bpb": 1.5, "model_config": dataclasses.asdict(config), "total_batch_size": 64}
save_checkpoint(folder, 3, model.state_dict(), None, meta)
text = "What is 37? isn't\\n\\n <|bos|> 1234"
json.dump([tokens.tolist(), logits.tolist(), text, tokenizer.encode(text)], open(folder + "/said.json", "w"))
"""


@pytest.fixture
def checkpoint(random_model: Callable[..., GPT], tokenizer: Tokenizer, tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "base_checkpoints" / "d3", random_model(), tokenizer)


def converted(folder: Path, tmp_path: Path, **options: Any) -> Path:
    output = tmp_path / "output"
    output.mkdir()
    convert(find(folder, **options), output, kind="base")
    return output


def refused(folder: Path, tmp_path: Path) -> str:
    with pytest.raises(DataError) as caught:
        converted(folder, tmp_path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dials", [{}, {"arch": "hf"}, {"num_kv_heads": 1, "window_pattern": "SL"}], ids=str)
def test_the_model_is_the_same(
    dials: dict[str, Any], random_model: Callable[..., GPT], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    theirs = random_model(**dials)
    output = converted(write_checkpoint(tmp_path / "checkpoint", theirs, tokenizer), tmp_path)
    ours, found = open_model(output)
    tokens = torch.randint(0, 350, (1, 300))
    assert torch.equal(ours(tokens), theirs(tokens))
    assert found == tokenizer
    assert json.loads((output / "losses.json").read_text())["val"] == [[7, 1.25]]
    meta = json.loads((output / "meta.json").read_text())
    assert (meta["stage"], meta["steps"], meta["tokens"]) == ("base", 7, 448)


@pytest.mark.parametrize(
    "shape",
    [{"n_layer": 5, "n_head": 2, "n_kv_head": 1, "n_embd": 64, "sequence_len": 640},
     {"n_layer": 4, "n_head": 3, "n_kv_head": 3, "n_embd": 96, "sequence_len": 512, "window_pattern": "SL"}],
    ids=str,
)  # fmt: skip
def test_nanochats_own_forward_gives_the_same_logits(shape: dict[str, Any], tmp_path: Path) -> None:
    """Run in its own environment: NANOCHAT_PEER is a checkout, NANOCHAT_PEER_PYTHON an interpreter for it."""
    checkout, python = os.environ.get("NANOCHAT_PEER"), os.environ.get("NANOCHAT_PEER_PYTHON")
    if not checkout or not python:
        pytest.skip("needs NANOCHAT_PEER and NANOCHAT_PEER_PYTHON")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    environment = {**os.environ, "NANOCHAT_DTYPE": "float32", "CUDA_VISIBLE_DEVICES": ""}
    command = [python, "-c", PEER, str(folder), checkout, json.dumps(shape)]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    tokens, logits, text, ids = json.loads((folder / "said.json").read_text())
    ours, tokenizer = open_model(converted(folder, tmp_path))
    with torch.no_grad():
        found = ours(torch.tensor(tokens))
    assert found.std() > 1
    assert (found - torch.tensor(logits)).abs().max() <= 1e-4
    assert tokenizer.encode(text) == ids


def test_halves_and_compiled_names_are_read(
    checkpoint: Path, random_model: Callable[..., GPT], tmp_path: Path
) -> None:
    theirs = {f"_orig_mod.{name}": tensor for name, tensor in state_dict(random_model()).items()}
    name = "_orig_mod.transformer.wte.weight"
    theirs[name] = theirs[name].bfloat16()
    torch.save(theirs, checkpoint / "model_000007.pt")
    ours, _ = open_model(converted(checkpoint, tmp_path))
    assert torch.equal(ours.embedding.weight, theirs[name].float())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("smear_lambda"), "nothing in it is smear_scale"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "no model here has the parameter 'extra'"),
        (lambda tensors: tensors.update({"lm_head.weight": torch.ones(3, 4)}), "is (3, 4), wanted"),
        (lambda tensors: tensors.update({"transformer.h.9.attn.c_q.weight": torch.ones(96, 96)}), "h.9.attn"),
        (lambda tensors: [tensors.pop(name) for name in list(tensors) if "value" in name], "no model here"),
    ],
)  # fmt: skip
def test_parameters_that_do_not_fit_are_named(
    change: Callable[..., Any], said: str, checkpoint: Path, random_model: Callable[..., GPT], tmp_path: Path
) -> None:
    tensors = state_dict(random_model())
    change(tensors)
    torch.save(tensors, checkpoint / "model_000007.pt")
    assert said in refused(checkpoint, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_experts": 4}, "model_config has n_experts"), ({"n_layer": None}, "depth"),
        ({"n_layer": 10**9}, "depth"),
        ({"window_pattern": "XY"}, "window_pattern"), ({"window_pattern": 3}, "window_pattern"),
        ({"n_head": 5}, "num_heads"), ({"vocab_size": 351}, "tokenizer.pkl has 350 ids, the model 351"),
        ({"n_layer": 4}, "no model here has"), ({"n_embd": 48}, "wanted"),
    ],
    ids=str,
)  # fmt: skip
def test_a_config_that_does_not_fit_is_named(
    change: dict[str, Any], said: str, checkpoint: Path, tmp_path: Path
) -> None:
    file = checkpoint / "meta_000007.json"
    meta = json.loads(file.read_text())
    meta["model_config"] |= change
    file.write_text(json.dumps(meta))
    assert said in refused(checkpoint, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "is not JSON"), ("[]", "is not a JSON object"), ("{}", "model_config is missing"),
     ('{"model_config": {}}', "model_config lacks n_embd")],
)  # fmt: skip
def test_a_damaged_meta_file_is_named(text: str, said: str, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "meta_000007.json").write_text(text)
    assert said in refused(checkpoint, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"special_tokens": {token: id_ for id_, token in enumerate(SPECIAL_TOKENS, 300)}}, "special tokens"),
        ({"special_tokens": {}}, "special tokens"),
        ({"mergeable_ranks": {bytes([byte]): 255 - byte for byte in range(256)}}, "first 256 tokens"),
        ({"mergeable_ranks": {bytes([byte]): byte * 2 for byte in range(256)}}, "ranks are not 0, 1, 2"),
        ({"pat_str": "("}, "pattern"),
    ],
)  # fmt: skip
def test_another_tokenizer_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    given = {
        "mergeable_ranks": {bytes([byte]): byte for byte in range(256)}, "pat_str": ".",
        "special_tokens": {token: id_ for id_, token in enumerate(SPECIAL_TOKENS, 256)},
    } | change  # fmt: skip
    encoding = tiktoken.Encoding("x", **(given | {"pat_str": "."}))
    encoding._pat_str = given["pat_str"]
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(encoding))
    with pytest.raises(DataError, match=said):
        read_tokenizer(tmp_path / "tokenizer.pkl")


@pytest.mark.parametrize("value", [1, {"a": 1}, "gpt2", {b"a": 0}], ids=str)
def test_a_pickle_of_something_else_is_refused(value: Any, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match="no pickled tiktoken encoding"):
        read_tokenizer(tmp_path / "tokenizer.pkl")


def test_the_last_step_is_found_and_the_tokenizer_where_nanochat_keeps_it(
    checkpoint: Path, random_model: Callable[..., GPT], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    write_checkpoint(checkpoint, random_model(), tokenizer, step=12)
    kept = tmp_path / "tokenizer"
    kept.mkdir()
    (checkpoint / "tokenizer.pkl").rename(kept / "tokenizer.pkl")
    found = find(checkpoint)
    assert (found.step, found.model.name, found.tokenizer) == (12, "model_000012.pt", kept / "tokenizer.pkl")
    assert find(checkpoint, step=7).meta.name == "meta_000007.json"
    with pytest.raises(ResourceError, match=r"no checkpoint of step 8 \(steps that are there: 7, 12\)"):
        find(checkpoint, step=8)
    with pytest.raises(ResourceError, match="nowhere: no such file"):
        find(checkpoint, tokenizer=Path("nowhere"))
    (kept / "tokenizer.pkl").unlink()
    with pytest.raises(ResourceError, match="--tokenizer"):
        find(checkpoint)


def test_what_is_missing_is_said(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no folder"):
        find(tmp_path / "absent")
    with pytest.raises(ResourceError, match="no model_"):
        find(tmp_path)
    (checkpoint / "meta_000007.json").unlink()
    with pytest.raises(ResourceError, match=r"meta_000007\.json"):
        find(checkpoint)
