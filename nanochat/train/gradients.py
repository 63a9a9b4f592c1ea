"""Gradients of a weighted loss, batch after batch; on a GPU the host never waits for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from nanochat.model.gpt import GPT
from nanochat.optim.loss_scale import LossScale


class Rows(Protocol):
    """What one pass takes: token ids, and targets of which -1 is none."""

    @property
    def inputs_BT(self) -> Tensor: ...
    @property
    def targets_BT(self) -> Tensor: ...


def accumulate(
    model: GPT,
    batches: Sequence[Rows],
    total_weight: float | Tensor,
    world_size: int,
    loss_scale: LossScale | None = None,
) -> Tensor:
    """Gradients of the mean loss over all supervised tokens of a global batch; returns this rank's share.

    ``total_weight`` counts supervised targets over all micro-batches and ranks, so every token weighs
    the same however the batch is cut. Gradients are scaled up by ``world_size``: they get averaged later.
    """
    share = torch.zeros((), dtype=torch.float64, device=model.device)
    for batch in batches:
        inputs_BT, targets_BT = batch.inputs_BT.to(model.device), batch.targets_BT.to(model.device)
        weights_BT = (targets_BT >= 0).float() * (world_size / total_weight)
        share += backward(model, inputs_BT, targets_BT, weights_BT, loss_scale) / world_size
    return share


def backward(
    model: GPT, inputs_BT: Tensor, targets_BT: Tensor, weights_BT: Tensor, loss_scale: LossScale | None = None
) -> Tensor:
    """Add the gradients of the weighted loss to ``.grad``, times the loss scale; the loss, 0-d float64."""
    if loss_scale is None:
        loss = model.loss(inputs_BT, targets_BT, weights_BT)
        loss.backward()
        return loss.detach().double()
    scaled = model.loss(inputs_BT, targets_BT, weights_BT * loss_scale.value)
    scaled.backward()
    return scaled.detach().double() / loss_scale.value
