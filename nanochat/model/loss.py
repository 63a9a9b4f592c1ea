"""Head, soft cap and cross-entropy in one pass, a block of tokens at a time.

The logits of a whole batch are the largest tensor of training; here they never exist. Loss and both
gradients of a block are computed while its logits are in cache (the idea of Liger's fused linear
cross-entropy, Hsu et al., 2024).

Shapes: N tokens, C width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK_TOKENS = 512


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
    ) -> Tensor:
        head = head_VC[:vocab].to(x_NC.dtype)
        grad_x = torch.empty_like(x_NC)
        grad_head = torch.zeros_like(head_VC)
        total = torch.zeros((), dtype=torch.float32, device=x_NC.device)
        for start in range(0, x_NC.size(0), BLOCK_TOKENS):
            block = slice(start, start + BLOCK_TOKENS)
            x, target, weight = x_NC[block], targets_N[block].unsqueeze(1), weights_N[block].unsqueeze(1)
            squashed = (x @ head.T).float().div_(softcap).tanh_()
            # capped logits are at most softcap, so exp cannot overflow and no maximum is needed
            gradient = torch.exp(squashed * softcap)
            normaliser = gradient.sum(dim=1, keepdim=True)
            nll = normaliser.log() - softcap * squashed.gather(1, target)
            total += (nll * weight).sum()
            gradient.mul_(weight / normaliser).scatter_add_(1, target, -weight)
            gradient.addcmul_(gradient, squashed.square_(), value=-1)  # d softcap(z) / dz = 1 - tanh^2
            gradient = gradient.to(x.dtype)
            torch.mm(gradient, head, out=grad_x[block])
            grad_head[:vocab] += gradient.T @ x
        ctx.save_for_backward(grad_x, grad_head)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_head = ctx.saved_tensors
        return grad_x * grads[0].to(grad_x.dtype), grad_head * grads[0], None, None, None, None


def weighted_cross_entropy(
    x_NC: Tensor, head_VC: Tensor, targets_N: Tensor, weights_N: Tensor, softcap: float, vocab_size: int
) -> Tensor:
    """Sum over tokens of weight x (-log p(target)), in nats, fp32 scalar.

    x_NC in the compute dtype; head_VC fp32; targets_N int64, -1 where weight is 0; weights_N fp32.
    Only tokens with a weight reach the head: masked prompts cost nothing here.
    """
    counted = weights_N.nonzero().squeeze(1)
    if counted.numel() < weights_N.numel():
        x_NC, targets_N, weights_N = x_NC[counted], targets_N[counted], weights_N[counted]
    return _WeightedCrossEntropy.apply(x_NC, head_VC, targets_N, weights_N, softcap, vocab_size)


@torch.no_grad()
def token_nll(x_NC: Tensor, head_VC: Tensor, targets_N: Tensor, softcap: float, vocab_size: int) -> Tensor:
    """-log p(target) of every token in nats, (N,) fp32; 0 where the target is -1. No gradients."""
    head, losses_N = head_VC[:vocab_size].to(x_NC.dtype), torch.zeros(x_NC.size(0), device=x_NC.device)
    for start in range(0, x_NC.size(0), BLOCK_TOKENS):
        block = slice(start, start + BLOCK_TOKENS)
        target = targets_N[block].unsqueeze(1)
        logits = (x_NC[block] @ head.T).float().div_(softcap).tanh_().mul_(softcap)
        chosen = logits.gather(1, target.clamp_min(0))
        nll = logits.exp_().sum(dim=1, keepdim=True).log_() - chosen
        losses_N[block] = torch.where(target >= 0, nll, 0.0).squeeze(1)
    return losses_N
