"""The optimizer as plainly as it can be written: one parameter at a time, in float64, no stacks, no shares.

And a zoo of shapes to try it on, with a gradient for every rank and step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nanochat.optim.muon import POLAR_EXPRESS

ADAMW = {  # shapes of each group; what a rank owns of them is a slice, a number, or nothing
    "table": [(8, 4), (7, 3)],
    "vector": [(5,)],
    "one": [(1,)],
    "scalar": [()],
}
MUON = {  # (how many, rows, columns): not divisible by ranks; fewer than ranks; a single one
    "tall": (5, 24, 8),
    "wide": (3, 6, 20),
    "square": (2, 12, 12),
    "single": (1, 16, 4),
    "row": (4, 1, 12),
}
Groups = list[dict[str, Any]]


def zoo(weight_decay: float = 0.1) -> Groups:
    """Groups of every kind and shape, with equal numbers at every call."""
    generator = torch.Generator().manual_seed(3)

    def parameter(shape: tuple[int, ...]) -> Tensor:
        return torch.nn.Parameter(torch.randn(shape, generator=generator))

    adamw = {"kind": "adamw", "lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-8, "weight_decay": weight_decay}
    muon = {"kind": "muon", "lr": 0.03, "momentum": 0.95, "beta2": 0.9, "weight_decay": weight_decay}
    groups = [{"params": [parameter(shape) for shape in shapes], **adamw} for shapes in ADAMW.values()]
    stacks = [[parameter(shape) for _ in range(count)] for count, *shape in MUON.values()]
    return groups + [{"params": stack, **muon} for stack in stacks]


def parameters(groups: Groups) -> list[Tensor]:
    """All of them in order."""
    return [param for group in groups for param in group["params"]]


def gradient(param: Tensor, number: int, step: int, rank: int) -> Tensor:
    """What ``rank`` computed for the parameter of this number."""
    generator = torch.Generator().manual_seed(step * 1000 + number * 10 + rank)
    return torch.randn(param.shape, generator=generator)


class DenseReference:
    """The same settings and schedule; gradients are given, averaged, as a list."""

    def __init__(self, groups: Groups) -> None:
        self.groups = [{**g, "params": [p.detach().double() for p in g["params"]]} for g in groups]
        self.state: dict[int, list[Tensor]] = {}
        self.steps = 0

    def step(self, grads: list[Tensor]) -> None:
        """One update of every parameter."""
        self.steps += 1
        number = 0
        for group in self.groups:
            for param in group["params"]:
                rule = self._muon if group["kind"] == "muon" else self._adamw
                rule(group, number, param, grads[number].double())
                number += 1

    def _adamw(self, group: dict[str, Any], number: int, param: Tensor, grad: Tensor) -> None:
        beta1, beta2 = group["betas"]
        mean, square = self.state.setdefault(number, [torch.zeros_like(param), torch.zeros_like(param)])
        mean.mul_(beta1).add_((1 - beta1) * grad)
        square.mul_(beta2).add_((1 - beta2) * grad**2)
        unbiased, spread = mean / (1 - beta1**self.steps), square / (1 - beta2**self.steps)
        param.mul_(1 - group["lr"] * group["weight_decay"])
        param.sub_(group["lr"] * unbiased / (spread.sqrt() + group["eps"]))

    def _muon(self, group: dict[str, Any], number: int, param: Tensor, grad: Tensor) -> None:
        rows, columns = param.shape
        over = 1 if rows >= columns else 0
        fresh = [torch.zeros_like(param), torch.zeros_like(param.mean(over))]
        momentum, variance = self.state.setdefault(number, fresh)
        momentum.mul_(group["momentum"]).add_((1 - group["momentum"]) * grad)
        update = group["momentum"] * momentum + (1 - group["momentum"]) * grad
        update = update * (update.norm() / rows**0.5) / update.norm(dim=1, keepdim=True)

        update = update / (1.01 * update.norm() + 1e-6)
        u, singular, vt = torch.linalg.svd(update, full_matrices=False)
        for a, b, c in POLAR_EXPRESS:  # an odd polynomial acts on the singular values alone
            singular = a * singular + b * singular**3 + c * singular**5
        update = u @ torch.diag(singular) @ vt
        update = update * min(rows, columns) ** 0.5 / update.norm()

        mean_square = (update**2).mean(over)
        variance.mul_(group["beta2"]).add_((1 - group["beta2"]) * mean_square)
        scaled = update / variance.sqrt().unsqueeze(over)
        update = scaled * update.norm() / scaled.norm()

        decay = group["weight_decay"] * param * (update * param >= 0)
        param.sub_(group["lr"] * max(1, rows / columns) ** 0.5 * (update + decay))
