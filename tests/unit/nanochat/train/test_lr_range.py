"""The range test: rates really ramp, a fresh model learns and then diverges, and the ramp ends there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nanochat.config.model import ARCHITECTURES, ModelConfig
from nanochat.config.optim import OptimConfig
from nanochat.data.loader import Batch
from nanochat.model.gpt import GPT
from nanochat.optim.build import MuonAdamW, build_optimizer
from nanochat.report.lr_curve import LRCurve
from nanochat.train.lr_range import Ramp, range_test

SHAPE = {"depth": 1, "width": 32, "num_heads": 2, "num_kv_heads": 2, "vocab_size": 64, "seq_len": 16}


class Counting:
    """An endless text that can be learned: each token is the one before plus 1, from a random start."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)

    def next(self) -> Batch:
        start = torch.randint(0, 64, (4, 1), generator=self.generator)
        rows = (start + torch.arange(17)) % 64
        inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        return Batch(inputs, targets, epoch=0, supervised=targets.numel())


def ramped(low: float, high: float, steps: int = 60, **switches: Any) -> tuple[LRCurve, list[Any], MuonAdamW]:
    torch.manual_seed(0)
    model = GPT(ModelConfig(**{**SHAPE, **switches}))
    model.init_weights()
    optimizer = build_optimizer(
        model, OptimConfig().model_copy(update={"schedule": Ramp(low=low, high=high)})
    )
    seen: list[Any] = []
    found = range_test(
        model, optimizer, Counting(), steps=steps, passes=2, world_size=1,  # type: ignore[arg-type]
        noted=lambda *step: seen.append(step),
    )  # fmt: skip
    return found, seen, optimizer


def test_every_rate_grows_by_the_same_factor() -> None:
    found, seen, optimizer = ramped(0.001, 0.1, steps=9)
    assert found.scales == pytest.approx([0.001 * 100 ** (i / 8) for i in range(9)])
    assert [(scale, loss) for _, scale, loss in seen] == list(zip(found.scales, found.losses, strict=True))
    assert all(group["lr"] == pytest.approx(0.1 * group["initial_lr"]) for group in optimizer.param_groups)


@pytest.mark.parametrize("switches", [{}, ARCHITECTURES["hf"]], ids=["current", "hf"])
def test_a_model_learns_within_the_ramp_and_diverges_at_its_end(switches: dict[str, Any]) -> None:
    found, _, _ = ramped(0.01, 3000.0, **switches)
    assert found.losses[0] == pytest.approx(4.16, abs=0.05)  # ln 64
    assert min(found.smoothed) < 3.5
    assert found.diverged is not None
    assert 0.01 < found.suggestion < found.scales[found.diverged] < 3000


def test_it_ends_once_all_is_lost_or_the_loss_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([4.0, 3.9, 3.8, 3.5, 4.1, 4.2, 4.3, 4.4])
    monkeypatch.setattr("nanochat.train.lr_range.accumulate", lambda *_: next(given))
    monkeypatch.setattr(MuonAdamW, "step", lambda self: None)
    assert ramped(0.01, 10)[0].losses == (4.0, 3.9, 3.8, 3.5, 4.1, 4.2, 4.3)
    given = iter([4.0, 3.9, float("nan"), 3.0])
    assert ramped(0.01, 10)[0].losses == (4.0, 3.9)
