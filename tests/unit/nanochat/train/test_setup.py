"""What a training process decides before its first step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nanochat.train import setup
from nanochat.train.setup import StopRequest, seed_everything


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.mark.criterion("T30")
def test_on_a_cpu_kernels_are_deterministic_and_new_memory_is_not_filled() -> None:
    seed_everything(3, torch.device("cpu"))
    first = torch.rand(3)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    seed_everything(3, torch.device("cpu"))
    assert torch.equal(first, torch.rand(3))


def test_late_answers_are_those_to_the_call_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(setup.dist, "all_reduce", lambda total: total)
    stop = StopRequest(torch.device("cpu"))
    assert not stop.agreed(late=True)
    stop._ask(15, None)
    assert [stop.agreed(late=True), stop.agreed(late=True)] == [False, True]
    assert stop.agreed()
