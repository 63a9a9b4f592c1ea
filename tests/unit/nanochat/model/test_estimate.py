"""The estimate follows the recipe's own numbers; what the command prints of it is tested with the command."""

from __future__ import annotations

import pytest

from nanochat.config.pipeline import Resolution
from nanochat.model.cost import flops_per_token
from nanochat.model.estimate import estimate
from nanochat.model.hardware import GPUS


def test_time_price_and_memory_follow_from_the_shape() -> None:
    resolution = Resolution("d12", {"nproc": 8})
    found = estimate(resolution, GPUS["h100"], 0.5)
    base = resolution.stages["base"]
    assert found["tokens"] == base.steps * base.batch_tokens  # type: ignore[attr-defined]
    assert found["flops"] == found["tokens"] * flops_per_token(base.model)  # type: ignore[attr-defined]
    assert found["seconds"] == pytest.approx(found["flops"] / (8 * GPUS["h100"].peak_flops * 0.5))
    assert found["dollars"] == pytest.approx(found["seconds"] / 3600 * 8 * 3.0)
    assert found["fits"]
    assert not estimate(Resolution("d24", {}), GPUS["4090"], 0.5)["fits"]
