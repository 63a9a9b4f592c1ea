"""Blockwise cross-entropy equals the plain formula, gradients included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nanochat.model import loss as loss_module
from nanochat.model.loss import token_nll, weighted_cross_entropy


def plain(x: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    logits = 15 * torch.tanh(x @ head[:90].T / 15)
    nll = F.cross_entropy(logits, targets.clamp_min(0), reduction="none")
    return (nll * weights).sum()


@pytest.mark.parametrize("tokens", [7, 64, 65])
def test_loss_and_gradients_equal_autograd(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss_module.BLOCK_TOKENS, "cpu", 16)
    torch.manual_seed(tokens)
    x = torch.randn(tokens, 24, dtype=torch.float32, requires_grad=True)
    head = torch.randn(96, 24, requires_grad=True)  # 6 rows of padding beyond the vocabulary of 90
    targets = torch.randint(0, 90, (tokens,))
    weights = torch.randn(tokens)
    weights[::3], targets[::3] = 0, -1
    ours = weighted_cross_entropy(x, head, targets, weights, 15.0, 90)
    theirs = plain(x, head, targets, weights)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for mine, reference in zip(
        torch.autograd.grad(2 * ours, (x, head)), torch.autograd.grad(2 * theirs, (x, head)), strict=True
    ):
        assert torch.allclose(mine, reference, atol=1e-5)


def test_tokens_that_are_not_left_out_beforehand_count_by_their_weight() -> None:
    torch.manual_seed(0)
    x, head = torch.randn(6, 8, requires_grad=True), torch.randn(12, 8)
    targets, weights = torch.tensor([3, -1, 0, 11, -1, 2]), torch.tensor([1.0, 0, 2, 1, 0, 0])
    kept = weights > 0
    result = loss_module._WeightedCrossEntropy.apply(x, head, targets, weights, 15.0, 12, False)
    expected = weighted_cross_entropy(x[kept], head, targets[kept], weights[kept], 15.0, 12)
    assert result.item() == pytest.approx(expected.item(), rel=1e-6)
    assert not torch.autograd.grad(result, x)[0][~kept].any()


def test_token_nll_is_zero_where_there_is_no_target() -> None:
    torch.manual_seed(0)
    x, head, targets = torch.randn(5, 8), torch.randn(12, 8), torch.tensor([3, -1, 0, 11, -1])
    nll = token_nll(x, head, targets, 15.0, 12)
    expected = F.cross_entropy(15 * torch.tanh(x @ head.T / 15), targets.clamp_min(0), reduction="none")
    assert torch.allclose(nll, torch.where(targets >= 0, expected, 0.0), atol=1e-6)


def test_no_weighted_token_gives_zero_and_no_gradient() -> None:
    x = torch.randn(4, 8, requires_grad=True)
    head = torch.randn(12, 8, requires_grad=True)
    result = weighted_cross_entropy(x, head, torch.full((4,), -1), torch.zeros(4), 15.0, 12)
    result.backward()
    assert result.item() == 0
    assert not x.grad.any()
