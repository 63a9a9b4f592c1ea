"""``python -m tests.unit.nanochat.optim.ranks RANK RANKS FOLDER``: one rank of several that train the zoo.

What the tests look at afterwards is saved in FOLDER by name; from what STATE there holds, one part goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nanochat.config.optim import Schedule
from nanochat.optim.muon_adamw import MuonAdamW
from tests.unit.nanochat.optim.dense import gradient, parameters, zoo

STEPS = 4
Spoil = Callable[[int, Tensor], Tensor | None]


def make(state: dict[str, Any] | None = None) -> MuonAdamW:
    """The optimizer of the zoo; ``state``: parameters and optimizer state to go on from."""
    groups = zoo()
    optimizer = MuonAdamW(groups, Schedule(warmup_steps=2))
    if state is not None:
        with torch.no_grad():
            torch._foreach_copy_(parameters(groups), state["params"])
        optimizer.load_state_dict(state["optimizer"])
    return optimizer


def train(
    optimizer: MuonAdamW, rank: int, ranks: int, first: int = 0, spoil: Spoil | None = None
) -> list[float]:
    """Steps from ``first`` on; rank r of n has the mean of every n-th of six parts of the gradient."""
    norms = []
    for step in range(first, first + STEPS):
        optimizer.set_progress(step, 20)
        for number, param in enumerate(parameters(optimizer.param_groups)):
            parts = [gradient(param, number, step, part) for part in range(rank, 6, ranks)]
            param.grad = torch.stack(parts).mean(0)
            if spoil is not None:
                param.grad = spoil(number, param.grad)
        norms.append(float(optimizer.step()))
    return norms


def snapshot(optimizer: MuonAdamW) -> dict[str, Any]:
    """Copies of parameters and state."""
    params = [param.detach().clone() for param in parameters(optimizer.param_groups)]
    return {"params": params, "optimizer": optimizer.state_dict()}


def main(rank: int, ranks: int, folder: Path) -> None:
    """All parts, in this order on every rank."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)

    def save(name: str, value: Any) -> None:
        torch.save(value, folder / f"{name}-{rank}.pt")

    optimizer = make()
    save("norms", train(optimizer, rank, ranks))
    save("trained", snapshot(optimizer))
    owned = sum(v.numel() for values in optimizer._state.values() for n, v in values.items() if n != "step")
    save("owned", owned)

    for bad in (float("nan"), float("inf")):

        def spoil(number: int, grad: Tensor, bad: float = bad) -> Tensor:
            return grad.index_fill(0, torch.tensor([0]), bad) if (rank, number) == (ranks - 1, 1) else grad

        save(f"norms-{bad}", train(optimizer, rank, ranks, STEPS, spoil))
        save(f"after-{bad}", snapshot(optimizer))

    save("norms-zero", train(optimizer, rank, ranks, STEPS, lambda _, grad: None))
    save("after-zero", snapshot(optimizer))

    start = torch.load(folder / "STATE")
    optimizer = make(start)
    train(optimizer, rank, ranks, STEPS)
    save("resumed", snapshot(optimizer))
    optimizer = make()
    train(optimizer, rank, ranks, spoil=lambda _, grad: grad if rank == 0 else None)
    save("lonely", snapshot(optimizer))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
