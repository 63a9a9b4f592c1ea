"""One optimizer for the whole model: which parameter goes to Muon or AdamW, and with what settings."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nanochat.config.optim import OptimConfig, Schedule, cosine_to_zero
from nanochat.optim.muon import muon_step

REFERENCE_WIDTH = 768


class MuonAdamW:
    """Muon for groups of kind "muon" (stacked by shape), AdamW for the rest.

    Gradients are averaged over ranks before the step; every rank then does the same update.
    ``set_progress`` applies the schedule. State is plain tensors and numbers, so it can be saved exactly.
    It has the interface of ``torch.optim.Optimizer`` without its base, which imports the compiler (2 s in
    every process) and rounds restored state to the type of its parameter.
    """

    def __init__(self, groups: list[dict[str, Any]], schedule: Schedule) -> None:
        self.param_groups = groups
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.schedule = schedule
        for group in self.param_groups:
            group["initial_lr"] = group["lr"]
            group["initial_weight_decay"] = group["weight_decay"]

    def set_progress(self, step: int, total: int) -> float:
        """Set rates for ``step`` of ``total``; returns the learning-rate multiplier."""
        multiplier = self.schedule.lr(step, total)
        for group in self.param_groups:
            group["lr"] = group["initial_lr"] * multiplier
            if group["kind"] == "muon":
                group["momentum"] = self.schedule.momentum(step, total)
                group["weight_decay"] = group["initial_weight_decay"] * cosine_to_zero(step, total)
        return multiplier

    def zero_grad(self) -> None:
        """Drop every gradient."""
        for param in self._params():
            param.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Settings of every group, and state by the number of its parameter; the tensors are live."""
        numbers = {param: number for number, param in enumerate(self._params())}
        groups = [{**group, "params": [numbers[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": {numbers[p]: dict(state) for p, state in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` gave. ValueError if it is of other groups."""
        params = self._params()
        mine, given = self.state_dict()["param_groups"], state["param_groups"]
        if [group["params"] for group in mine] != [group["params"] for group in given]:
            raise ValueError("the optimizer's groups are others than those of the state")
        for group, settings in zip(self.param_groups, given, strict=True):
            group.update({name: value for name, value in settings.items() if name != "params"})
        self.state.clear()
        for number, values in state["state"].items():
            device = params[number].device
            self.state[params[number]] = {
                name: value if name == "step" else value.to(device) for name, value in values.items()
            }

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients in ``.grad``; parameters without a gradient stay as they are."""
        _average_gradients(self.param_groups)
        for group in self.param_groups:
            (self._step_muon if group["kind"] == "muon" else self._step_adamw)(group)

    def _step_muon(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        state = self.state[params[0]]
        stacked = torch.stack(list(params))
        if not state:
            rows, columns = stacked.shape[-2:]
            state["momentum"] = torch.zeros_like(stacked)
            state["variance"] = stacked.new_zeros(
                (len(params), rows, 1) if rows >= columns else (len(params), 1, columns)
            )
        muon_step(
            stacked, torch.stack([p.grad for p in params]), state["momentum"], state["variance"],
            lr=group["lr"], momentum=group["momentum"], beta2=group["beta2"],
            weight_decay=group["weight_decay"],
        )  # fmt: skip
        for param, new in zip(params, stacked, strict=True):
            param.copy_(new)

    def _step_adamw(self, group: dict[str, Any]) -> None:
        """AdamW (Loshchilov and Hutter, 2019), all parameters of the group at once."""
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        for param in params:
            if not self.state[param]:
                self.state[param].update(
                    step=torch.tensor(0.0), mean=torch.zeros_like(param), square=torch.zeros_like(param)
                )
        states = [self.state[param] for param in params]
        torch._fused_adamw_(  # the kernel behind torch.optim.AdamW(fused=True), on CPU and CUDA
            params, [p.grad for p in params], [s["mean"] for s in states], [s["square"] for s in states], [],
            _advance(states), lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1],
            weight_decay=group["weight_decay"], eps=1e-10, amsgrad=False, maximize=False,
        )  # fmt: skip


def _advance(states: list[dict[str, Tensor]]) -> list[Tensor]:
    for state in states:
        state["step"] += 1
    return [state["step"].to(state["mean"].device) for state in states]


def _average_gradients(groups: list[dict[str, Any]]) -> None:
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return
    for group in groups:
        for param in group["params"]:
            if param.grad is None:
                param.grad = torch.zeros_like(param)
            dist.all_reduce(param.grad, op=dist.ReduceOp.SUM)
            param.grad /= dist.get_world_size()


def build_optimizer(model: nn.Module, config: OptimConfig) -> MuonAdamW:
    """Sort the parameters of a GPT into groups by name and shape."""
    width_scale = (model.config.width / REFERENCE_WIDTH) ** -0.5
    table_lr = config.embedding_lr * width_scale
    settings: dict[str, dict[str, Any]] = {
        "head": {"lr": config.head_lr * width_scale, "betas": (0.8, 0.96), "weight_decay": 0.01},
        "embedding": {"lr": table_lr, "betas": (0.8, 0.995), "weight_decay": 0.001},
        "value_embeddings": {"lr": table_lr * 0.5, "betas": (0.8, 0.995), "weight_decay": 0.01},
        "residual_scale": {"lr": config.scalar_lr * 0.01, "betas": (0.8, 0.95), "weight_decay": 0.05},
        "skip_scale": {"lr": config.scalar_lr, "betas": (0.96, 0.95), "weight_decay": 0.0},
        "smear_gate": {"lr": 0.2, "betas": (0.8, 0.95), "weight_decay": 0.0},
        "smear_scale": {"lr": 0.2, "betas": (0.8, 0.95), "weight_decay": 0.0},
        "backout_scale": {"lr": 0.2, "betas": (0.8, 0.95), "weight_decay": 0.0},
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
        {"params": members, "kind": "adamw", **settings[key]}
        if isinstance(key, str)
        else {"params": members, **muon}
        for key, members in params.items()
    ]
    for group in groups:
        group["lr"] *= config.lr_scale
    return MuonAdamW(groups, config.schedule)
