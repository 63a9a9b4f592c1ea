"""Sampling: the right distribution, the cut-offs, and independence of rows."""

from __future__ import annotations

from collections import Counter
from random import Random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.engine.sampling import GREEDY, Sampling, choose

PROBS = (0.5, 0.3, 0.15, 0.05)
LOGITS_1V = torch.tensor([PROBS]).log()


def shares(sampling: Sampling, n: int = 4000) -> list[float]:
    rng = Random(0)
    counts = Counter(choose(LOGITS_1V.expand(n, -1), sampling, [rng.random() for _ in range(n)]))
    return [counts[token] / n for token in range(4)]


def close(found: list[float], expected: tuple[float, ...]) -> bool:
    return all(abs(a - b) < 0.03 for a, b in zip(found, expected, strict=True))


def test_greedy_takes_the_likeliest() -> None:
    assert choose(LOGITS_1V, GREEDY, [0.99]) == [0]


def test_plain_sampling_follows_the_softmax() -> None:
    assert close(shares(Sampling(1.0)), PROBS)


def test_temperature_sharpens() -> None:
    squares = [p * p for p in PROBS]
    assert close(shares(Sampling(0.5)), tuple(s / sum(squares) for s in squares))


def test_top_k_and_top_p_cut_the_tail() -> None:
    assert close(shares(Sampling(1.0, top_k=2)), (0.625, 0.375, 0, 0))
    assert close(shares(Sampling(1.0, top_p=0.8)), (0.625, 0.375, 0, 0))
    assert close(shares(Sampling(1.0, top_p=0.81)), (0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8), st.integers(1, 6))
def test_a_row_does_not_depend_on_its_neighbours_and_stays_in_its_top_k(
    draws: list[float], top_k: int
) -> None:
    logits_NV = torch.randn(len(draws), 6, generator=torch.Generator().manual_seed(len(draws)))
    sampling = Sampling(1.3, top_k)
    together = choose(logits_NV, sampling, draws)
    assert together == [
        choose(logits_NV[i : i + 1], sampling, draws[i : i + 1])[0] for i in range(len(draws))
    ]
    allowed = logits_NV.topk(top_k).indices.tolist()
    assert all(token in row for token, row in zip(together, allowed, strict=True))


def test_the_largest_draw_never_reaches_a_token_of_probability_zero() -> None:
    logits_NV = torch.full((1, 1000), 0.1)
    logits_NV[0, 500:] = -torch.inf
    assert choose(logits_NV, Sampling(1.0), [1 - 2**-53])[0] < 500
