"""Validation during training: a fixed set of batches, scored the same way every time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from nanochat.data.loader import Batch
from nanochat.model.gpt import GPT
from nanochat.train.setup import all_sum


@torch.no_grad()
def mean_loss(model: GPT, batches: Sequence[Batch]) -> float:
    """Mean cross-entropy over supervised targets of all batches and ranks, nats a token."""
    nats, count = 0.0, 0
    for batch in batches:
        targets = batch.targets_BT.to(model.device)
        nats += float(model.token_nll(batch.inputs_BT.to(model.device), targets).sum(dtype=torch.float64))
        count += int((targets >= 0).sum())
    return all_sum(nats, model.device) / max(1.0, all_sum(count, model.device))


@torch.no_grad()
def bits_per_byte(model: GPT, batches: Sequence[Batch], token_bytes_V: torch.Tensor) -> float:
    """Nats over targets of at least one byte, divided by ln 2 and by their bytes; special tokens excluded."""
    nats, size = 0.0, 0
    for batch in batches:
        targets = batch.targets_BT.to(model.device)
        bytes_BT = torch.where(targets >= 0, token_bytes_V[targets.clamp_min(0)], 0)
        nll_BT = model.token_nll(batch.inputs_BT.to(model.device), targets)
        nats += float(nll_BT[bytes_BT > 0].sum(dtype=torch.float64))
        size += int(bytes_BT.sum())
    return all_sum(nats, model.device) / (math.log(2) * max(1.0, all_sum(size, model.device)))
