"""Muon: momentum whose update is replaced by the nearest orthogonal matrix.

Sources: Muon (Jordan et al., 2024); Polar Express iteration (Amsel et al., arXiv 2505.16932); NorMuon
variance reduction (Li et al., arXiv 2510.05491); row equilibration (MuonEq, arXiv 2603.28254);
renormalisation to the norm of a semi-orthogonal matrix (Muon+, arXiv 2602.21545); cautious weight
decay, applied only where it agrees with the update (Chen et al., 2025).

Shapes: K matrices of one shape stacked, M rows, N columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

# five steps, safety factor 0.02, from the Polar Express paper
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonalize(update_KMN: Tensor) -> Tensor:
    """The polar factor of each matrix, approximately, in the dtype given (Polar Express, 5 steps)."""
    x = update_KMN / (update_KMN.norm(dim=(-2, -1), keepdim=True) * 1.01 + 1e-6)
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def muon_step(
    params_KMN: Tensor,
    grads_KMN: Tensor,
    momentum_KMN: Tensor,
    variance_K: Tensor,
    *,
    lr: float | Tensor,
    momentum: float | Tensor,
    beta2: float | Tensor,
    weight_decay: float | Tensor,
    dtype: torch.dtype = torch.float32,
    taken: Tensor | None = None,
) -> None:
    """One step in place on ``params_KMN``; ``variance_K`` is (K, M, 1) for tall, (K, 1, N) for wide matrices.

    Everything is fp32 but the orthogonalisation, which runs in ``dtype``. The step has the size
    lr x sqrt(max(1, M / N)), so that every matrix moves alike in spectral norm. Where ``taken`` is false
    (bool, 0-d, on the device) nothing changes, whatever the gradients are.
    """
    rows, columns = params_KMN.shape[-2:]
    share: float | Tensor = 1.0
    if taken is not None:
        grads_KMN, share = torch.where(taken, grads_KMN, 0.0), taken.float()
    momentum_KMN.lerp_(grads_KMN, (1 - momentum) * share)
    update = grads_KMN.lerp(momentum_KMN, momentum)
    norm = update.norm(dim=(-2, -1), keepdim=True)
    update = update * (norm / rows**0.5 / update.norm(dim=-1, keepdim=True).clamp_min(1e-6))
    if dtype == torch.float16:  # its smallest number is larger than most of a gradient
        update = update / update.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-30)
    update = orthogonalize(update.to(dtype)).float()
    update = update * (min(rows, columns) ** 0.5 / update.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-6))

    reduced = -1 if rows >= columns else -2
    mean_square = update.square().mean(dim=reduced, keepdim=True)
    variance_K.lerp_(mean_square, (1 - beta2) * share)
    scale = variance_K.clamp_min(1e-10).rsqrt()
    before = mean_square.sum(dim=(-2, -1), keepdim=True).sqrt()
    after = (mean_square * scale.square()).sum(dim=(-2, -1), keepdim=True).sqrt()
    update = update * scale * (before / after.clamp_min(1e-10))

    step = lr * share * max(1.0, rows / columns) ** 0.5
    agrees = (update * params_KMN) >= 0
    params_KMN.sub_(step * (update + weight_decay * params_KMN * agrees))


@functools.cache
def _compiled() -> Callable[..., None]:
    return torch.compile(muon_step, dynamic=False, fullgraph=True)


def compiled_muon_step(
    *tensors: Tensor,
    lr: float,
    momentum: float,
    beta2: float,
    weight_decay: float,
    dtype: torch.dtype,
    taken: Tensor | None = None,
) -> None:
    """``muon_step``, compiled once for each shape: rates are tensors, so new ones compile nothing."""
    rates = {"lr": lr, "momentum": momentum, "beta2": beta2, "weight_decay": weight_decay}
    exact = {name: torch.tensor(value) for name, value in rates.items()}
    _compiled()(*tensors, **exact, dtype=dtype, taken=taken)
