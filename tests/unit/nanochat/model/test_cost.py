"""The counts are those of the real model, group by group, and FLOPs those of its products."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat.config.derive import Dials, model_shape, scaling_parameters
from nanochat.config.model import ARCHITECTURES, ModelConfig
from nanochat.config.pipeline import resolve
from nanochat.model.cost import (
    dollars,
    flops_per_token,
    kv_cache_bytes,
    mfu,
    parameters,
    training_seconds,
)
from nanochat.model.gpt import GPT
from nanochat.model.hardware import GPUS
from nanochat.presets import PRESETS

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
    parts = {name: p.numel() for name, p in model.named_parameters() if p.dim() == 2}
    assert found.mlp == sum(size for name, size in parts.items() if ".mlp." in name)
    assert found.gates == sum(size for name, size in parts.items() if "gate" in name)
    assert found.scalars == sum(p.numel() for p in model.parameters() if p.dim() == 1)


def test_what_scaling_rules_count_is_matrices_and_head() -> None:
    config = model_shape(Dials(depth=12))
    found = parameters(config)
    assert scaling_parameters(config) == found.matrices + found.head


@pytest.mark.criterion("T35")
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


@pytest.mark.criterion("T35")
@pytest.mark.parametrize("preset", PRESETS)
def test_of_every_preset_too(preset: str) -> None:
    config = resolve(preset)["base"].model
    with torch.device("meta"):
        assert parameters(config).total == sum(p.numel() for p in GPT(config).parameters())


@pytest.mark.parametrize(
    ("dials", "total", "flops"),
    [
        (Dials(depth=4, seq_len=512, window_pattern="L"), 36_700_242, 7.55e7),
        (Dials(depth=12), 286_261_730, 7.597e8),
        (Dials(depth=20), 896_533_746, 2.886e9),
        (Dials(depth=24), 1_384_122_122, 4.775e9),
        (Dials(depth=26), 1_681_786_938, 5.991e9),
        (Dials(depth=32), 2_818_575_450, 1.0771e10),
        (Dials(depth=4, arch="hf", vocab_size=65536), 36_700_160, None),
        (Dials(depth=12, arch="hf", vocab_size=65536), 185_597_952, None),
        (Dials(depth=20, arch="hf", vocab_size=65536), 560_988_160, 3.92e19 / 11.22e9),
        (Dials(depth=26, arch="hf", vocab_size=65536), 1_081_999_360, 1.49e20 / 21.64e9),
        (Dials(depth=32, arch="hf", vocab_size=65536), 1_879_048_192, 4.54e20 / 37.58e9),
    ],
    ids=lambda value: f"d{value.depth}-{value.arch}" if isinstance(value, Dials) else None,
)
def test_published_parameters_and_flops(dials: Dials, total: int, flops: float | None) -> None:
    """Both eras: the tables of nanochat of December 2025 (20 tokens a parameter) and of July 2026."""
    model = model_shape(dials)
    assert parameters(model).total == total
    if flops:
        assert flops_per_token(model) == pytest.approx(flops, rel=3e-3)  # three digits are published


@pytest.mark.parametrize("switches", SWITCHES)
def test_the_cache_takes_what_its_tensors_take(switches: str) -> None:
    config = ModelConfig(**{**SHAPES["odd"], **SWITCHES[switches]})
    for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
        for tokens in (50, 1000):
            cache = GPT(config, dtype).new_cache(rows=3, max_tokens=tokens)
            held = [cache.tokens_RT, *cache.keys_RHSD, *cache.values_RHSD]
            assert kv_cache_bytes(config, 3, tokens, size) == sum(tensor.nbytes for tensor in held)


def test_the_published_speedrun_comes_out() -> None:
    """Depth 24, 5.84e9 tokens in 1.65 h on 8 H100: 59 % of their bf16 peak, $24 an hour."""
    model, h100 = model_shape(Dials(depth=24)), GPUS["h100"]
    used = mfu(model, 5.84e9 / (1.65 * 3600), h100.peak_flops, gpus=8)
    assert used == pytest.approx(0.59, abs=0.005)
    seconds = training_seconds(flops_per_token(model) * 5.84e9, h100.peak_flops, 8, used)
    assert seconds == pytest.approx(1.65 * 3600)
    assert dollars(seconds, 8, h100.dollars_per_hour) == pytest.approx(1.65 * 24)
