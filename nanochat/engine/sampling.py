"""Choosing the next token: logits and one uniform number a row in, token ids out.

Every row brings its own random number, so what it becomes does not depend on the rows beside it.

Shapes: N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

COLDEST = 1e-4  # what is colder overflows, and would choose the likeliest anyway
CANDIDATES = 256  # of the likeliest tokens, tried before the whole vocabulary is sorted


@dataclass(frozen=True)
class Sampling:
    """Temperature 0 is greedy; where it is more, ``top_k``, ``top_p`` and ``min_p`` cut the tail.

    ``top_p``: the likeliest tokens that together have this share. ``min_p``: tokens with at least this share
    of the likeliest one's probability. ``repetition_penalty``: divides the logits (multiplies negative ones)
    of ordinary tokens that were in the prompt or the answer before; 1 does nothing.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        assert self.temperature >= 0, self.temperature
        assert self.top_k is None or self.top_k >= 1, self.top_k
        assert 0 < self.top_p <= 1, self.top_p
        assert 0 <= self.min_p <= 1, self.min_p
        assert self.repetition_penalty > 0, self.repetition_penalty


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


def choose_each(logits_NV: Tensor, samplings_N: Sequence[Sampling], draws_N: Sequence[float]) -> list[int]:
    """One token id a row, each row by its own settings, which may differ.

    Faster than ``choose``: tokens are tried in the order of their likelihood, and only where the draw falls
    behind the first few hundred is a row sorted as a whole. The same draw picks another token than there.
    """
    tokens = logits_NV.argmax(dim=-1).tolist()
    rows = [row for row, sampling in enumerate(samplings_N) if sampling.temperature >= COLDEST]
    if not rows:
        return tokens
    temperatures = torch.tensor([samplings_N[row].temperature for row in rows], device=logits_NV.device)
    scaled_NV = logits_NV[rows].float() / temperatures[:, None]
    most = max(CANDIDATES, *(samplings_N[row].top_k or 0 for row in rows))
    values_NK, ids_NK = (t.cpu().numpy() for t in scaled_NV.topk(min(most, scaled_NV.size(1)), dim=-1))
    totals_N = scaled_NV.logsumexp(dim=-1).tolist()
    for i, row in enumerate(rows):
        given = totals_N[i], samplings_N[row], draws_N[row], scaled_NV.size(1)
        order_K = np.lexsort((ids_NK[i], -values_NK[i]))
        token = _drawn(values_NK[i][order_K], ids_NK[i][order_K], *given)
        if token is None:
            values_V, ids_V = scaled_NV[i].sort(descending=True, stable=True)
            token = _drawn(values_V.cpu().numpy(), ids_V.cpu().numpy(), *given)
        assert token is not None
        tokens[row] = token
    return tokens


def _drawn(
    values_K: np.ndarray, ids_K: np.ndarray, log_total: float, sampling: Sampling, draw: float, vocab: int
) -> int | None:
    """The token that ``draw`` falls on among the likeliest K, best first; None if those after them matter."""
    cumulative_K = np.exp(values_K[: sampling.top_k].astype(np.float64) - log_total).cumsum()
    count = len(cumulative_K)
    complete = sampling.top_k is not None or count == vocab
    whole = cumulative_K[-1] if sampling.top_k is not None else 1.0
    kept = count if complete else count + 1
    if sampling.top_p < 1:
        kept = min(kept, int(np.searchsorted(cumulative_K, sampling.top_p * whole)) + 1)
    if sampling.min_p > 0:
        inside = int((values_K[:count] >= values_K[0] + np.log(sampling.min_p)).sum())
        kept = min(kept, inside) if inside < count else kept
    cut = sampling.top_p < 1 or sampling.min_p > 0
    if cut and kept > count:
        return None
    point = draw * (cumulative_K[kept - 1] if cut else whole)
    place = int(np.searchsorted(cumulative_K[:kept], point, side="right"))
    if place >= count and not complete:
        return None
    last = int(np.searchsorted(cumulative_K, cumulative_K[min(kept, count) - 1]))  # of probability above zero
    return int(ids_K[min(place, last)])


def penalise(logits_V: Tensor, seen: Collection[int], penalty: float) -> None:
    """Apply a repetition penalty (Keskar et al., 2019) to one row, in place; ``seen`` without duplicates."""
    ids = torch.tensor(list(seen), dtype=torch.int64, device=logits_V.device)
    values = logits_V[ids]
    logits_V[ids] = torch.where(values > 0, values / penalty, values * penalty)


def add_bias(logits_V: Tensor, bias: Mapping[int, float]) -> None:
    """Add ``bias`` to the logits of its token ids, in place."""
    ids = torch.tensor(list(bias), dtype=torch.int64, device=logits_V.device)
    logits_V[ids] += torch.tensor(list(bias.values()), dtype=logits_V.dtype, device=logits_V.device)


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
    if sampling.min_p > 0:
        probs_NV = probs_NV.masked_fill(probs_NV < sampling.min_p * probs_NV.amax(dim=-1, keepdim=True), 0)
    return probs_NV
