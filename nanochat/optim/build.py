"""One optimizer for the whole model: which parameter goes to Muon or AdamW, and with what settings."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from nanochat.config.optim import OptimConfig
from nanochat.model.gpt import GPT
from nanochat.optim.loss_scale import LossScale
from nanochat.optim.muon_adamw import MuonAdamW

REFERENCE_WIDTH = 768
EPS = 1e-10
SCALE_EPS = 1e-5
"""Of the scales of the residual stream. At the first step every block gives 0 and the norms take any scale
out, so that their gradients are rounding noise (1e-10; later 1e-3 and more). Of that, Adam with EPS makes
whole steps in directions that differ with the CPU and the number of ranks.
"""


def build_optimizer(model: GPT, config: OptimConfig) -> MuonAdamW:
    """Sort the parameters of a GPT into groups by name and shape. Several ranks: in their process group."""
    width_scale = (model.config.width / REFERENCE_WIDTH) ** -0.5
    table_lr = config.embedding_lr * width_scale
    scalar_lr, scale = config.scalar_lr, {"eps": SCALE_EPS}
    settings: dict[str, dict[str, Any]] = {
        "head": {"lr": config.head_lr * width_scale, "betas": (0.8, 0.96), "weight_decay": 0.01},
        "embedding": {"lr": table_lr, "betas": (0.8, 0.995), "weight_decay": 0.001},
        "value_embeddings": {"lr": table_lr * 0.5, "betas": (0.8, 0.995), "weight_decay": 0.01},
        "residual_scale": {"lr": scalar_lr * 0.01, "betas": (0.8, 0.95), "weight_decay": 0.05, **scale},
        "skip_scale": {"lr": scalar_lr, "betas": (0.96, 0.95), "weight_decay": 0.0, **scale},
        "smear_gate": {"lr": 0.2, "betas": (0.8, 0.95), "weight_decay": 0.0},
        "smear_scale": {"lr": 0.2, "betas": (0.8, 0.95), "weight_decay": 0.0},
        "backout_scale": {"lr": 0.2, "betas": (0.8, 0.95), "weight_decay": 0.0, **scale},
    }  # fmt: skip
    muon = {
        "kind": "muon",
        "lr": config.matrix_lr,
        "momentum": 0.95,
        "beta2": 0.9,
        "weight_decay": config.weight_decay,
    }
    params: dict[Any, list[Tensor]] = defaultdict(list)
    for name, param in model.named_parameters():
        part = name.split(".")[0]
        params[tuple(param.shape) if part == "blocks" else part].append(param)
    groups = [
        {"params": members, "kind": "adamw", "eps": EPS, **settings[key]}
        if isinstance(key, str)
        else {"params": members, **muon}
        for key, members in params.items()
    ]
    for group in groups:
        group["lr"] *= config.lr_scale
    on_gpu = model.device.type == "cuda"
    half = model.compute_dtype == torch.float16
    return MuonAdamW(
        groups, config.schedule, model.compute_dtype,
        compiled=config.compile == "on" or (config.compile == "auto" and on_gpu), on_device=on_gpu,
        loss_scale=LossScale(model.device) if half else None, clip_norm=config.clip_norm,
    )  # fmt: skip
