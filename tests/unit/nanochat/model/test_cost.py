"""The counts are those of the real model, group by group, and FLOPs those of its products."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat.config.derive import Dials, model_shape, scaling_parameters
from nanochat.config.model import ARCHITECTURES, ModelConfig
from nanochat.model.cost import flops_per_token, parameters
from nanochat.model.gpt import GPT

SHAPES = {
    "tiny": {"depth": 2, "width": 32, "num_heads": 2, "num_kv_heads": 2, "vocab_size": 512, "seq_len": 128},
    "odd": {"depth": 5, "width": 96, "num_heads": 6, "num_kv_heads": 2, "vocab_size": 301, "seq_len": 640},
}
SWITCHES = {
    "current": {}, "hf": ARCHITECTURES["hf"], "bare": {"residual_scalars": False, "backout": False},
}  # fmt: skip


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_group_is_counted_to_the_unit(shape: str, switches: str) -> None:
    config = ModelConfig(**{**SHAPES[shape], **SWITCHES[switches]})
    with torch.device("meta"):
        model = GPT(config)
    found = parameters(config)
    assert found.total == sum(p.numel() for p in model.parameters())
    assert found.multiplying == sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))
    assert found.embedding == model.embedding.weight.numel()
    assert found.value_embeddings == sum(table.weight.numel() for table in model.value_embeddings.values())
    assert found.head == model.head.weight.numel()
    assert found.scalars == sum(p.numel() for p in model.parameters() if p.dim() == 1)


def test_what_scaling_rules_count_is_matrices_and_head() -> None:
    config = model_shape(Dials(depth=12))
    found = parameters(config)
    assert scaling_parameters(config) == found.matrices + found.head


def test_flops_are_those_of_every_product_that_the_model_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, where every layer sees everything; backward costs twice as much."""
    config, products = ModelConfig(**SHAPES["odd"], **ARCHITECTURES["hf"]), []
    attend = F.scaled_dot_product_attention

    def attention(q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        products.append(2 * 2 * q.numel() * k.size(-2))  # queries on keys, weights on values
        return attend(q, k, v, **options)

    def linear(module: nn.Linear, inputs: tuple[Tensor], output: Tensor) -> None:
        products.append(2 * output.numel() * module.in_features)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    with torch.device("meta"):
        model = GPT(config)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(linear)
        model(torch.zeros(1, config.seq_len, dtype=torch.long))
    assert 3 * sum(products) == config.seq_len * flops_per_token(config)


def test_a_short_window_costs_what_it_lets_a_position_see() -> None:
    full, short = (ModelConfig(**SHAPES["odd"], window_pattern=pattern) for pattern in ("L", "SSL"))
    hidden = sum(640 - short.window(layer) for layer in range(5))
    assert hidden == 3 * (640 - 256)
    assert flops_per_token(full) - flops_per_token(short) == 12 * 96 * hidden
