"""Head, soft cap and cross-entropy in one pass, a block of tokens at a time.

The logits of a whole batch are the largest tensor of training; here they never exist. Loss and both
gradients of a block are computed while its logits are in cache (the idea of Liger's fused linear
cross-entropy, Hsu et al., 2024).

Shapes: N tokens, R of these at a time, C width, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK_TOKENS = {"cpu": 256, "cuda": 512}  # less is less memory, more is more work for a GPU at once
PIECE_WORDS = 8192
CACHED_NUMBERS = 1 << 19  # of logits in fp32 at a time on a CPU: what its second-level cache holds


class _WeightedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_NC: Tensor,
        head_VC: Tensor,
        targets_N: Tensor,
        weights_N: Tensor,
        softcap: float,
        vocab: int,
        compiled: bool,
    ) -> Tensor:
        losses_and_gradients = _compiled() if compiled else _losses_and_gradients
        head, targets_N = head_VC[:vocab].to(x_NC.dtype), targets_N.clamp_min(0)
        grad_x = torch.empty_like(x_NC)
        grad_head = torch.zeros_like(head_VC)
        losses_N = torch.empty_like(weights_N)
        work = _Work(x_NC, vocab)
        for start in range(0, x_NC.size(0), work.tokens):
            block = slice(start, start + work.tokens)
            x = x_NC[block]
            logits_NV = torch.mm(x, head.T, out=work.logits(x.size(0)))
            for rows in work.rows(x.size(0)):
                at = slice(start + rows.start, start + rows.stop)
                losses_and_gradients(
                    logits_NV[rows],
                    targets_N[at, None],
                    weights_N[at, None],
                    softcap,
                    losses_N[at],
                    work.squashed_RV,
                    work.gradient_RV,
                )
            torch.mm(logits_NV, head, out=grad_x[block])
            _add_products(grad_head, logits_NV, x)
        ctx.gradients = grad_x, grad_head
        return (losses_N * weights_N).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_head = ctx.gradients
        ctx.gradients = None  # in place, so once; and nobody else holds them, so autograd need not copy
        return grad_x.mul_(grads[0]), grad_head.mul_(grads[0]), None, None, None, None, None


class _Work:
    """Buffers that every block uses again: fresh ones of this size cost more in page faults than in work."""

    def __init__(self, x_NC: Tensor, vocab: int) -> None:
        kind = x_NC.device.type
        self.tokens = max(1, min(BLOCK_TOKENS[kind], x_NC.size(0)))
        cached = max(1, CACHED_NUMBERS // vocab) if kind == "cpu" else self.tokens
        self._rows = min(self.tokens, cached)
        self._logits_NV = x_NC.new_empty(self.tokens, vocab)
        self.squashed_RV, self.gradient_RV = torch.empty(
            2, self._rows, vocab, dtype=torch.float32, device=x_NC.device
        )

    def logits(self, tokens: int) -> Tensor:
        """Room for the logits of a block, in the compute dtype."""
        return self._logits_NV[:tokens]

    def rows(self, tokens: int) -> Iterator[slice]:
        """The pieces of a block that stay in cache from one elementwise operation to the next."""
        for start in range(0, tokens, self._rows):
            yield slice(start, min(start + self._rows, tokens))


def _add_products(grad_head_VC: Tensor, gradient_NV: Tensor, x_NC: Tensor) -> None:
    """Add the head's gradient, a piece of the vocabulary at a time where that has to be converted."""
    vocab = gradient_NV.size(1)
    if x_NC.dtype == grad_head_VC.dtype:
        grad_head_VC[:vocab].addmm_(gradient_NV.T, x_NC)
        return
    for start in range(0, vocab, PIECE_WORDS):
        words = slice(start, min(start + PIECE_WORDS, vocab))
        grad_head_VC[words] += gradient_NV[:, words].T @ x_NC


def _capped(logits_RV: Tensor, softcap: float, squashed_RV: Tensor, capped_RV: Tensor) -> None:
    """Soft cap of logits, and the sigmoid of these times 2 / softcap, into the two buffers.

    tanh(z) is 2 sigmoid(2z) - 1, which a CPU computes in a third of the time.
    """
    squashed_RV.copy_(logits_RV).mul_(2 / softcap).sigmoid_()
    torch.mul(squashed_RV, 2 * softcap, out=capped_RV).sub_(softcap)


def _losses_and_gradients(
    logits_RV: Tensor,
    target_R1: Tensor,
    weight_R1: Tensor,
    softcap: float,
    losses_R: Tensor,
    squashed_RV: Tensor,
    gradient_RV: Tensor,
) -> None:
    """-log p(target) into ``losses_R``; over the logits, the weighted loss's gradient by the plain logits."""
    squashed, gradient = squashed_RV[: len(losses_R)], gradient_RV[: len(losses_R)]
    _capped(logits_RV, softcap, squashed, gradient)
    chosen = gradient.gather(1, target_R1)
    # capped logits are at most softcap, so exp cannot overflow and no maximum is needed
    normaliser = gradient.exp_().sum(dim=1, keepdim=True)
    losses_R.copy_((normaliser.log() - chosen).squeeze(1))
    # d softcap(z) / dz = 1 - tanh^2 = 4 (s - s^2)
    gradient.mul_(4 * weight_R1 / normaliser).scatter_add_(1, target_R1, -4 * weight_R1)
    logits_RV.copy_(gradient.mul_(squashed.addcmul_(squashed, squashed, value=-1)))


@functools.cache
def _compiled() -> Callable[..., None]:
    return torch.compile(_losses_and_gradients, dynamic=False)


def weighted_cross_entropy(
    x_NC: Tensor,
    head_VC: Tensor,
    targets_N: Tensor,
    weights_N: Tensor,
    softcap: float,
    vocab_size: int,
    compiled: bool = False,
) -> Tensor:
    """Sum over tokens of weight x (-log p(target)), in nats, fp32 scalar.

    x_NC in the compute dtype; head_VC fp32; targets_N int64, -1 where weight is 0; weights_N fp32.
    On a CPU only tokens with a weight reach the head: masked prompts cost nothing there. A GPU would have to
    wait for the host to count them. ``compiled``: the elementwise part by torch.compile.
    """
    if x_NC.device.type == "cpu":
        counted = weights_N.nonzero().squeeze(1)
        if counted.numel() < weights_N.numel():
            x_NC, targets_N, weights_N = x_NC[counted], targets_N[counted], weights_N[counted]
    return _WeightedCrossEntropy.apply(x_NC, head_VC, targets_N, weights_N, softcap, vocab_size, compiled)


@torch.no_grad()
def token_nll(x_NC: Tensor, head_VC: Tensor, targets_N: Tensor, softcap: float, vocab_size: int) -> Tensor:
    """-log p(target) of every token in nats, (N,) fp32; 0 where the target is -1. No gradients."""
    head, losses_N = head_VC[:vocab_size].to(x_NC.dtype), torch.zeros(x_NC.size(0), device=x_NC.device)
    work = _Work(x_NC, vocab_size)
    for start in range(0, x_NC.size(0), work.tokens):
        x = x_NC[start : start + work.tokens]
        logits_NV = torch.mm(x, head.T, out=work.logits(x.size(0)))
        for rows in work.rows(x.size(0)):
            at = slice(start + rows.start, start + rows.stop)
            target = targets_N[at, None]
            capped = work.gradient_RV[: target.size(0)]
            _capped(logits_NV[rows], softcap, work.squashed_RV[: target.size(0)], capped)
            chosen = capped.gather(1, target.clamp_min(0))
            nll = capped.exp_().sum(dim=1, keepdim=True).log_() - chosen
            losses_N[at] = torch.where(target >= 0, nll, 0.0).squeeze(1)
    return losses_N
