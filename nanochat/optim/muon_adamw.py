"""The optimizer of a model: Muon for groups of matrices, AdamW for tables and scalars, sharded over ranks."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nanochat.config.optim import Schedule, cosine_to_zero
from nanochat.optim.loss_scale import LossScale
from nanochat.optim.muon import compiled_muon_step, muon_step
from nanochat.optim.share import Share


class MuonAdamW:
    """Muon for groups of kind "muon" (matrices of one shape, stacked), AdamW for the rest.

    With several ranks each owns the state of its share and updates that; see ``Share``. It has to be built
    after the process group. ``dtype`` is what Muon orthogonalises in; ``compiled`` fuses its step;
    ``on_device`` decides there whether a step may be taken, so that the host never waits for its norm;
    ``loss_scale`` is what the gradients are multiplied by. Where all of them together are longer than
    ``clip_norm``, they are scaled down to it (Pascanu et al., 2013); 0 clips nothing. It has the interface of
    ``torch.optim.Optimizer`` without its base, which imports the compiler (2 s in every process) and rounds
    restored state to the type of its parameter.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        schedule: Schedule,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        *,
        on_device: bool = False,
        loss_scale: LossScale | None = None,
        clip_norm: float = 0.0,
    ) -> None:
        self.param_groups, self.schedule, self.loss_scale = groups, schedule, loss_scale
        self._clip_norm = clip_norm
        self._on_device = on_device
        self._muon_step = partial(compiled_muon_step if compiled else muon_step, dtype=dtype)
        self._shares = [_shares_of(group) for group in groups]
        self._state: dict[Share, dict[str, Tensor]] = {}
        for group in groups:
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

    @torch.no_grad()
    def step(self, loss: Tensor | None = None) -> Tensor:
        """One update from the gradients in ``.grad``, averaged over ranks; their norm unclipped, 0-d float64.

        Where that is zero, NaN or infinite, or ``loss`` is not finite, parameters and state stay as they are,
        on every rank alike. Otherwise a missing gradient counts as zero.
        """
        reducing = [[share.reduce() for share in shares] for shares in self._shares]
        grads = [[wait() for wait in waits] for waits in reducing]
        every = [grad for of_group in grads for grad in of_group]
        if self.loss_scale:
            self.loss_scale.unscale(every)
        norm = _norm(every)
        if self.loss_scale:
            self.loss_scale.update(norm)
        usable = (norm > 0) & norm.isfinite() & (True if loss is None else loss.isfinite())
        if not self._on_device and not usable:
            return norm
        if self._clip_norm and (self._on_device or norm > self._clip_norm):
            torch._foreach_mul_(every, (self._clip_norm / norm).clamp_max(1).float())
        taken = usable if self._on_device else None
        work = list(zip(self.param_groups, self._shares, grads, strict=True))
        work.sort(key=lambda item: item[0]["kind"] == "muon")  # big tables travel while Muon computes
        sending = []
        for group, shares, of_group in work:
            owned = [share.owned() for share in shares]
            update = self._muon if group["kind"] == "muon" else self._adamw
            update(group, shares, owned, of_group, taken)
            sending += [share.gather(items) for share, items in zip(shares, owned, strict=True)]
        for wait in sending:
            wait()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Settings of every group, and state by the number of its parameter, whole, for any number of ranks.

        A collective call when there are several: then rank 0 has the state, on the CPU, the others none.
        With one, the tensors are live.
        """
        numbers = {param: number for number, param in enumerate(self._params())}
        groups = [{**group, "params": [numbers[p] for p in group["params"]]} for group in self.param_groups]
        state = {}
        for share in self._begun():
            values = self._state[share].items()
            whole = {name: value if name == "step" else share.collect(value) for name, value in values}
            if share.rank == 0:
                state[numbers[share.params[0]]] = {n: share.shaped(value) for n, value in whole.items()}
        scale = {"loss_scale": self.loss_scale.state_dict()} if self.loss_scale else {}
        return {"state": state, "param_groups": groups, **scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` gave on rank 0, of any number. ValueError if it is of other groups."""
        numbers = {param: number for number, param in enumerate(self._params())}
        mine = [[numbers[param] for param in group["params"]] for group in self.param_groups]
        if mine != [group["params"] for group in state["param_groups"]]:
            raise ValueError("the optimizer's groups are others than those of the state")
        for group, settings in zip(self.param_groups, state["param_groups"], strict=True):
            group.update({name: value for name, value in settings.items() if name != "params"})
        if self.loss_scale and "loss_scale" in state:  # else the run began in another dtype
            self.loss_scale.load_state_dict(state["loss_scale"])
        self._state.clear()
        for shares in self._shares:
            for share in shares:
                if values := state["state"].get(numbers[share.params[0]]):
                    self._state[share] = {name: _cut(share, name, value) for name, value in values.items()}

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    def _begun(self) -> list[Share]:
        """The shares that have state, in an order that every rank has and no resume changes."""
        return [share for shares in self._shares for share in shares if share in self._state]

    def _muon(
        self,
        group: dict[str, Any],
        shares: list[Share],
        owned: list[Tensor],
        grads: list[Tensor],
        taken: Tensor | None,
    ) -> None:
        params_KMN, rows, columns = owned[0], *shares[0].item_shape
        if shares[0] not in self._state:
            reduced = (rows, 1) if rows >= columns else (1, columns)
            self._state[shares[0]] = {
                "momentum": torch.zeros_like(params_KMN),
                "variance": params_KMN.new_zeros(params_KMN.size(0), *reduced),
            }
        if params_KMN.size(0):
            state = self._state[shares[0]]
            self._muon_step(
                params_KMN, grads[0], state["momentum"], state["variance"], lr=group["lr"],
                momentum=group["momentum"], beta2=group["beta2"], weight_decay=group["weight_decay"],
                taken=taken,
            )  # fmt: skip

    def _adamw(
        self,
        group: dict[str, Any],
        shares: list[Share],
        owned: list[Tensor],
        grads: list[Tensor],
        taken: Tensor | None,
    ) -> None:
        """AdamW (Loshchilov and Hutter, 2019), all parameters of the group at once."""
        for share, params in zip(shares, owned, strict=True):
            if share not in self._state:
                self._state[share] = {
                    "step": torch.zeros((), device=params.device),
                    "mean": torch.zeros_like(params),
                    "square": torch.zeros_like(params),
                }
            self._state[share]["step"] += 1 if taken is None else taken
        mine = [i for i, params in enumerate(owned) if params.numel()]
        if not mine:
            return
        owned, grads = [owned[i] for i in mine], [grads[i] for i in mine]
        states = [self._state[shares[i]] for i in mine]
        torch._fused_adamw_(  # the kernel behind torch.optim.AdamW(fused=True), on CPU and CUDA
            owned, grads, [s["mean"] for s in states], [s["square"] for s in states], [],
            [s["step"] for s in states], lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1],
            weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=False,
            found_inf=None if taken is None else (~taken).float(),
        )  # fmt: skip


def _shares_of(group: dict[str, Any]) -> list[Share]:
    params = group["params"]
    if group["kind"] == "muon":
        return [Share(params, tuple(params[0].shape))]
    return [Share([param], ()) for param in params]


def _norm(grads: list[Tensor]) -> Tensor:
    """Of all items of all ranks together; NaN or infinite on every rank if any number of any rank is."""
    total = torch.stack(torch._foreach_norm(grads)).double().square().sum()
    if dist.is_initialized():
        dist.all_reduce(total)
    return total.sqrt()


def _cut(share: Share, name: str, value: Tensor) -> Tensor:
    device = share.params[0].device
    if name == "step":
        return value.to(device, copy=True)
    items = value if share.item_shape else value.reshape(-1)
    if items.size(0) != share.items:
        raise ValueError(f"the state of a parameter has {items.size(0)} items, not {share.items}")
    return items[share.mine].to(device, copy=True)
