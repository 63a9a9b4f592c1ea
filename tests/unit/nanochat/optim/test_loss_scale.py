from __future__ import annotations

import torch

from nanochat.optim.loss_scale import FIRST, GROWS_EVERY, LossScale


def test_the_scale_doubles_after_many_good_steps_and_halves_at_once() -> None:
    scale = LossScale(torch.device("cpu"))
    for _ in range(GROWS_EVERY):
        scale.update(torch.tensor(1.0))
    assert float(scale.value) == 2 * FIRST
    for norm in ("nan", "inf"):
        scale.update(torch.tensor(float(norm)))
    assert float(scale.value) == FIRST / 2


def test_an_overflow_begins_the_count_anew_and_the_state_holds_it() -> None:
    scale, other = LossScale(torch.device("cpu")), LossScale(torch.device("cpu"))
    for _ in range(GROWS_EVERY - 1):
        scale.update(torch.tensor(0.5))
    other.load_state_dict(scale.state_dict())
    other.update(torch.tensor(0.5))
    scale.update(torch.tensor(float("inf")))
    scale.update(torch.tensor(0.5))
    assert (float(scale.value), float(other.value)) == (FIRST / 2, 2 * FIRST)


def test_gradients_are_divided_by_the_scale() -> None:
    scale, grads = LossScale(torch.device("cpu")), [torch.full((2, 3), FIRST), torch.zeros(1)]
    scale.unscale(grads)
    assert torch.equal(grads[0], torch.ones(2, 3))
