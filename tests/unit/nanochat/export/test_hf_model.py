"""Exported models give our logits in transformers: in its own NanoChat for ``arch=hf``, else with code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, NanoChatForCausalLM

from nanochat.config.derive import Dials, model_shape
from nanochat.export.hf_model import beyond_stock, stock_name, write_hf_model
from nanochat.model.gpt import GPT
from nanochat.tokenizer.tokenizer import Tokenizer

STOCK = [
    {"arch": "hf"}, {"arch": "hf", "aspect_ratio": 60, "head_dim": 20}, {"arch": "hf", "num_kv_heads": 1},
]  # fmt: skip
REMOTE = [{}, {"num_kv_heads": 1}, {"document_mask": True}, {"arch": "hf", "document_mask": True}]


@pytest.fixture
def loaded(random_model: Callable[..., GPT], tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., Any]:
    """``loaded(arch="hf")``: our model, and transformers' of the folder that was written for it."""

    def load(**dials: Any) -> tuple[GPT, Any]:
        model = random_model(**dials)
        beyond = write_hf_model(model, tokenizer, tmp_path)
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=bool(beyond))
        return model, theirs.eval()

    return load


@torch.no_grad()
def difference(ours: GPT, theirs: Any, tokens: torch.Tensor) -> float:
    return float((ours(tokens) - theirs(tokens).logits).abs().max())


@pytest.mark.parametrize("dials", STOCK, ids=str)
def test_stock_transformers_has_our_logits(dials: dict[str, Any], loaded: Callable[..., Any]) -> None:
    ours, theirs = loaded(**dials)
    tokens = torch.randint(0, 350, (2, 500))
    assert type(theirs) is NanoChatForCausalLM
    assert ours(tokens).std() > 1  # or the bound would mean nothing
    assert difference(ours, theirs, tokens) <= 1e-4


@pytest.mark.parametrize("dials", REMOTE, ids=str)
def test_the_code_that_comes_along_has_our_logits(dials: dict[str, Any], loaded: Callable[..., Any]) -> None:
    ours, theirs = loaded(**dials)
    tokens = torch.randint(0, 350, (2, 500))
    tokens[:, [0, 200]] = ours.config.bos
    assert type(theirs).__module__.endswith("modeling_nanochat_pipeline")
    assert difference(ours, theirs, tokens) <= 1e-4


@pytest.mark.parametrize("change", [{"qk_scale": 1.2}, {"rope_base": 100_000.0}, {"softcap": 20.0}], ids=str)
def test_the_bound_sees_every_switch(change: dict[str, float], loaded: Callable[..., Any]) -> None:
    """What transformers is not told of our model shows in the logits."""
    ours, theirs = loaded(arch="hf")
    other = GPT(ours.config.model_copy(update=change)).eval()
    other.load_state_dict(ours.state_dict())
    assert difference(other, theirs, torch.randint(0, 350, (1, 200))) > 1e-2


@pytest.mark.parametrize("dials", [{"arch": "hf"}, {}, {"arch": "hf", "document_mask": True}], ids=str)
def test_it_generates_what_we_would(dials: dict[str, Any], loaded: Callable[..., Any]) -> None:
    ours, theirs = loaded(**dials)
    prompt = torch.randint(0, 300, (2, 300))  # longer than a short window
    wanted = prompt
    for _ in range(12):
        wanted = torch.cat((wanted, ours(wanted)[:, -1:].argmax(-1)), dim=1)
    given = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    mask = torch.ones_like(prompt)
    cached = theirs.generate(prompt, attention_mask=mask, **given)
    assert torch.equal(cached, wanted)
    assert torch.equal(theirs.generate(prompt, attention_mask=mask, use_cache=False, **given), wanted)
    padded, seen = torch.cat((prompt[:, :9], prompt), 1), torch.cat((torch.zeros_like(mask[:, :9]), mask), 1)
    assert torch.equal(theirs.generate(padded, attention_mask=seen, **given)[:, 9:], wanted)
    beams = [
        theirs.generate(prompt, attention_mask=mask, num_beams=3, use_cache=cache, **given)
        for cache in (True, False)
    ]
    assert torch.equal(*beams)


@torch.no_grad()
def test_padding_on_the_left_changes_nothing(loaded: Callable[..., Any]) -> None:
    ours, theirs = loaded()
    tokens = torch.randint(0, 300, (1, 200))
    padded = torch.cat((tokens[:, :7], tokens), dim=1)
    mask = torch.ones_like(padded)
    mask[:, :7] = 0
    found = theirs(padded, attention_mask=mask).logits[:, 7:]
    assert (ours(tokens) - found).abs().max() <= 1e-4


@torch.no_grad()
def test_a_cache_of_two_documents_is_refused(loaded: Callable[..., Any]) -> None:
    """It would let the second see the first; without a cache each sees its own."""
    ours, theirs = loaded(arch="hf", document_mask=True)
    tokens = torch.randint(0, 300, (1, 9))
    tokens[0, [0, 5]] = ours.config.bos
    given = {"attention_mask": torch.ones_like(tokens), "max_new_tokens": 3, "do_sample": False}
    with pytest.raises(ValueError, match="use_cache=False"):
        theirs.generate(tokens, **given)
    alone = theirs.generate(tokens, use_cache=False, eos_token_id=None, **given)
    assert torch.equal(alone[0, 9:10], ours(tokens)[0, -1:].argmax(-1))
    mask = torch.ones_like(tokens)
    mask[0, :5] = 0  # padding before the only document
    assert theirs.generate(tokens, **(given | {"attention_mask": mask})).shape[1] > 9


def test_a_cache_without_the_token_before_is_refused(loaded: Callable[..., Any]) -> None:
    _, theirs = loaded()
    cache, following = theirs(torch.randint(0, 300, (1, 4)), use_cache=True).cache, torch.ones(1, 1).long()
    with pytest.raises(ValueError, match="previous_ids"):
        theirs(following, cache=cache)


def test_the_code_needs_nothing_of_ours(
    random_model: Callable[..., GPT], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """In a process where our packages cannot be imported."""
    assert write_hf_model(random_model(), tokenizer, tmp_path)
    program = (
        "import sys; sys.modules.update(nanochat=None, artifacts=None, flows=None, rustbpe=None)\n"
        "from transformers import AutoModelForCausalLM\n"
        f"AutoModelForCausalLM.from_pretrained({str(tmp_path)!r}, trust_remote_code=True)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_what_stock_transformers_lacks_is_said() -> None:
    shape = model_shape(Dials(arch="hf", depth=4, seq_len=2048))
    assert beyond_stock(shape) == []
    assert beyond_stock(shape.model_copy(update={"qk_scale": 1.2})) == ["queries and keys times 1.2"]
    assert beyond_stock(shape.model_copy(update={"window_pattern": "SL"})) == ["sliding windows (SL)"]
    assert beyond_stock(shape.model_copy(update={"document_mask": True})) == ["a document mask"]
    assert beyond_stock(model_shape(Dials(depth=4, seq_len=2048))) == [
        "value embeddings", "residual scalars", "smear", "backout", "sliding windows (SSSL)",
        "queries and keys times 1.2",
    ]  # fmt: skip


def test_the_current_model_has_what_theirs_lacks() -> None:
    with torch.device("meta"):
        model = GPT(model_shape(Dials(depth=2)))
    lacking = set()
    for name in model.state_dict():
        try:
            stock_name(name)
        except (KeyError, ValueError):
            lacking.add(name.split(".")[0])
    assert lacking == {
        "value_embeddings", "residual_scale", "skip_scale", "smear_gate", "smear_scale", "backout_scale",
        "blocks",
    }  # fmt: skip


def test_answers_end_where_ours_end(
    random_model: Callable[..., GPT], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    write_hf_model(random_model(arch="hf"), tokenizer, tmp_path)
    found = json.loads((tmp_path / "generation_config.json").read_text())
    end, bos = tokenizer.special("assistant_end"), tokenizer.special("bos")
    assert found == {"bos_token_id": bos, "eos_token_id": [end, bos], "pad_token_id": end}
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] is None
