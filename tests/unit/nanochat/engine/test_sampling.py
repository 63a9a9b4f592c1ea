"""Sampling: the right distribution, the cut-offs, and independence of rows."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.engine.sampling import GREEDY, Sampling, add_bias, choose, choose_each, penalise

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


def test_min_p_cuts_what_is_far_below_the_likeliest() -> None:
    assert close(shares(Sampling(1.0, min_p=0.29)), (0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0))
    assert close(shares(Sampling(1.0, min_p=0.31)), (0.625, 0.375, 0, 0))


VOCAB = 600  # more than CANDIDATES
SETTINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 3.0]),
    top_k=st.none() | st.integers(1, VOCAB + 9),
    top_p=st.sampled_from([0.1, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.001, 0.1, 1.0]),
)


def logits_of(spreads: list[float]) -> torch.Tensor:
    return torch.randn(len(spreads), VOCAB, generator=torch.Generator().manual_seed(3)) * torch.tensor(
        spreads
    ).unsqueeze(1)


@settings(max_examples=40, deadline=None)
@given(SETTINGS, st.sampled_from([0.1, 1.0, 4.0]))
def test_choose_each_gives_each_token_the_share_that_choose_gives_it(
    sampling: Sampling, spread: float
) -> None:
    n = 1000
    logits_NV = logits_of([spread]).expand(n, -1)
    draws = [(i + 0.5) / n for i in range(n)]
    counts = (Counter(chosen(logits_NV, n, sampling, draws)) for chosen in (_each, _all))
    each, alike = (torch.tensor([count[token] for token in range(VOCAB)]) for count in counts)
    assert (each - alike).abs().max() <= 2


def _each(logits_NV: torch.Tensor, n: int, sampling: Sampling, draws: list[float]) -> list[int]:
    return choose_each(logits_NV, [sampling] * n, draws)


def _all(logits_NV: torch.Tensor, n: int, sampling: Sampling, draws: list[float]) -> list[int]:
    return choose(logits_NV, sampling, draws)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(SETTINGS, st.floats(0, 1, exclude_max=True)), min_size=1, max_size=8))
def test_rows_of_different_settings_do_not_depend_on_each_other(rows: list[tuple[Sampling, float]]) -> None:
    logits_NV = logits_of([0.2 + i for i in range(len(rows))])
    together = choose_each(logits_NV, [sampling for sampling, _ in rows], [draw for _, draw in rows])
    alone = [
        choose_each(logits_NV[i : i + 1], [sampling], [draw])[0] for i, (sampling, draw) in enumerate(rows)
    ]
    assert together == alone


def test_the_largest_draw_of_choose_each_stays_inside_too() -> None:
    logits_NV = torch.full((1, 1000), 0.1)
    logits_NV[0, 500:] = -torch.inf
    for sampling in (Sampling(1.0), Sampling(1.0, top_p=0.9999), Sampling(1.0, top_k=700)):
        assert choose_each(logits_NV, [sampling], [1 - 2**-53])[0] < 500


def test_a_penalty_lowers_what_was_seen_and_a_bias_adds() -> None:
    logits_V = torch.tensor([2.0, -2.0, 3.0, 1.0])
    penalise(logits_V, {0, 1}, 2.0)
    assert logits_V.tolist() == [1.0, -4.0, 3.0, 1.0]
    add_bias(logits_V, {3: 10.0, 2: -1.0})
    assert logits_V.tolist() == [1.0, -4.0, 2.0, 11.0]


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 9e-5])
def test_a_temperature_near_zero_is_greedy(temperature: float) -> None:
    logits_NV = torch.randn(2, 1000, generator=torch.Generator().manual_seed(1)) * 10
    assert choose_each(logits_NV, [Sampling(temperature)] * 2, [0.5, 0.9]) == logits_NV.argmax(-1).tolist()
