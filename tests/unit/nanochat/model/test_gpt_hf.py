"""``arch=hf`` is the model that transformers has as NanoChat: same weights, same logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import NanoChatConfig, NanoChatForCausalLM

from nanochat.config.derive import Dials, model_shape
from nanochat.config.model import ModelConfig
from nanochat.model.gpt import GPT

LAYER = {
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj", "attention.out": "self_attn.o_proj",
    "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2",
}  # fmt: skip
OUTER = {"embedding.weight": "model.embed_tokens.weight", "head.weight": "lm_head.weight"}


def their_config(shape: ModelConfig) -> NanoChatConfig:
    return NanoChatConfig(
        vocab_size=shape.vocab_size, hidden_size=shape.width, intermediate_size=4 * shape.width,
        num_hidden_layers=shape.depth, num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads, max_position_embeddings=shape.seq_len,
        final_logit_softcapping=shape.softcap, rms_norm_eps=torch.finfo(torch.float32).eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_base},
    )  # fmt: skip


def their_name(name: str) -> str:
    """``blocks.3.mlp.up.weight`` -> ``model.layers.3.mlp.fc1.weight``; KeyError for what they do not have."""
    if name in OUTER:
        return OUTER[name]
    _, layer, part = name.removesuffix(".weight").split(".", 2)
    return f"model.layers.{layer}.{LAYER[part]}.weight"


def converted(model: GPT) -> NanoChatForCausalLM:
    """Their model with our weights; rows that only pad the tables are left out."""
    rows = model.config.vocab_size
    weights = {
        their_name(name): tensor[:rows] if name in OUTER else tensor
        for name, tensor in model.state_dict().items()
    }
    theirs = NanoChatForCausalLM(their_config(model.config))
    theirs.load_state_dict(weights)
    return theirs.eval()


def random_model(num_kv_heads: int | None = None, **dials: Any) -> GPT:
    """A model in which every parameter matters (the real start has zero output projections)."""
    shape = model_shape(Dials(arch="hf", depth=3, vocab_size=301, seq_len=640, **dials))
    torch.manual_seed(0)
    model = GPT(shape.model_copy(update={"num_kv_heads": num_kv_heads or shape.num_kv_heads}))
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        model.head.weight.mul_(6)  # so that the cap caps
    return model.eval()


@pytest.mark.parametrize(
    "shape",
    [{"aspect_ratio": 32, "head_dim": 32}, {"aspect_ratio": 60, "head_dim": 20},
     {"aspect_ratio": 32, "head_dim": 32, "num_kv_heads": 1}],
)  # fmt: skip
def test_the_logits_are_theirs(shape: dict[str, int]) -> None:
    model = random_model(**shape)
    tokens = torch.randint(0, 301, (2, 500))
    with torch.no_grad():
        ours, theirs = model(tokens), converted(model)(tokens).logits
    assert ours.std() > 1  # or the bound would mean nothing
    assert (ours - theirs).abs().max() <= 1e-4


@pytest.mark.parametrize("change", [{"qk_scale": 1.2}, {"rope_base": 100_000.0}, {"softcap": 20.0}])
def test_the_bound_sees_every_switch(change: dict[str, float]) -> None:
    """What transformers is not told of our model shows in the logits."""
    model = random_model(aspect_ratio=32, head_dim=32)
    tokens = torch.randint(0, 301, (1, 200))
    theirs = converted(model)
    other = GPT(model.config.model_copy(update=change)).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert (other(tokens) - theirs(tokens).logits).abs().max() > 1e-2


def test_the_current_model_has_what_theirs_lacks() -> None:
    with torch.device("meta"):
        model = GPT(model_shape(Dials(depth=2)))
    lacking = set()
    for name in model.state_dict():
        try:
            their_name(name)
        except (KeyError, ValueError):
            lacking.add(name.split(".")[0])
    assert lacking == {
        "value_embeddings", "residual_scale", "skip_scale", "smear_gate", "smear_scale", "backout_scale",
        "blocks",
    }  # fmt: skip
