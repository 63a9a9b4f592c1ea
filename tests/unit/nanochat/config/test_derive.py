"""One dial: the derived numbers equal the published table, and every one names its rule."""

from __future__ import annotations

import pytest

from nanochat.config.derive import Dials, derive, model_shape


@pytest.mark.parametrize(
    ("depth", "batch", "steps"),
    [(6, 2**18, 1060), (8, 2**18, 1920), (12, 2**19, 2520), (16, 2**19, 5376), (20, 2**20, 4980),
     (24, 2**20, 8352), (32, 2**21, 9600)],
)  # fmt: skip
def test_batch_and_steps_follow_from_depth(depth: int, batch: int, steps: int) -> None:
    values = derive(Dials(depth=depth)).values
    assert values["base.batch_tokens"] == batch
    assert values["base.steps"] == pytest.approx(steps, rel=2e-3)


def test_rates_and_decay_at_the_reference_depth_are_the_tuned_ones() -> None:
    values = derive(Dials(depth=12)).values
    assert values["base.optim.lr_scale"] == 1.0
    assert values["base.optim.weight_decay"] == pytest.approx(0.28)
    assert derive(Dials(depth=20)).values["base.optim.lr_scale"] == pytest.approx(2**0.5)


def test_width_is_whole_heads() -> None:
    shape = model_shape(Dials(depth=5, aspect_ratio=50, head_dim=64))
    assert (shape.width, shape.num_heads) == (256, 4)


def test_every_value_has_a_rule() -> None:
    derived = derive(Dials())
    assert derived.values.keys() == derived.rules.keys()
    assert all(derived.rules.values())


def test_the_batch_is_whole_passes_for_any_number_of_ranks() -> None:
    dials = Dials(depth=12, nproc=3, micro_batch=32)
    assert derive(dials).values["base.batch_tokens"] % (3 * 32 * dials.seq_len) == 0
