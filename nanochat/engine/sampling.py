"""Choosing the next token: logits and one uniform number a row in, token ids out.

Every row brings its own random number, so what it becomes does not depend on the rows beside it.

Shapes: N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """Temperature 0 is greedy; ``top_k`` and ``top_p`` (nucleus) cut the tail where temperature > 0."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        assert self.temperature >= 0, self.temperature
        assert self.top_k is None or self.top_k >= 1, self.top_k
        assert 0 < self.top_p <= 1, self.top_p


GREEDY = Sampling()


def choose(logits_NV: Tensor, sampling: Sampling, draws_N: Sequence[float]) -> list[int]:
    """One token id a row; ``draws_N`` are uniform in [0, 1) and unused when greedy."""
    if sampling.temperature == 0:
        return logits_NV.argmax(dim=-1).tolist()
    probs_NV = _probabilities(logits_NV.double(), sampling)
    cumulative_NV = probs_NV.cumsum(dim=-1)
    total_N1 = cumulative_NV[:, -1:]
    point_N1 = torch.tensor(draws_N, dtype=torch.float64, device=logits_NV.device)[:, None] * total_N1
    # rounding must not reach the total: beyond it lie only tokens of probability zero
    point_N1 = torch.minimum(point_N1, torch.nextafter(total_N1, torch.zeros_like(total_N1)))
    return torch.searchsorted(cumulative_NV, point_N1, right=True)[:, 0].tolist()


def _probabilities(logits_NV: Tensor, sampling: Sampling) -> Tensor:
    """Softmax at the temperature, with the cut-off tail at exactly zero (not renormalised)."""
    probs_NV = (logits_NV / sampling.temperature).softmax(dim=-1)
    if sampling.top_k is not None and sampling.top_k < probs_NV.size(1):
        smallest_N1 = probs_NV.topk(sampling.top_k, dim=-1).values[:, -1:]
        probs_NV = probs_NV.masked_fill(probs_NV < smallest_N1, 0)
    if sampling.top_p < 1:
        sorted_NV = probs_NV.sort(dim=-1, descending=True).values
        before_NV = sorted_NV.cumsum(dim=-1) - sorted_NV
        inside_NV = before_NV < sampling.top_p * sorted_NV.sum(dim=-1, keepdim=True)
        smallest_N1 = sorted_NV.masked_fill(~inside_NV, torch.inf).amin(dim=-1, keepdim=True)
        probs_NV = probs_NV.masked_fill(probs_NV < smallest_N1, 0)
    return probs_NV
