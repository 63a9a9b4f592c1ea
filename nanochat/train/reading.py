"""Numbers of a device on their way to the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def on_device(number: float | Tensor, device: torch.device) -> Tensor:
    """A number as a 0-d float64 tensor; what is on the host goes along with the kernel, so nobody waits."""
    if isinstance(number, Tensor):
        return number.to(device, torch.float64)
    return torch.full((), number, dtype=torch.float64, device=device)


class Reading:
    """Some numbers, copied when this is made; on CUDA the host waits for the copy when it asks for them."""

    def __init__(self, numbers: Sequence[float | Tensor], device: torch.device) -> None:
        stacked = torch.stack([on_device(number, device) for number in numbers])
        self._arrived: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._host = torch.empty(len(numbers), dtype=torch.float64, pin_memory=True)
            self._host.copy_(stacked, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        else:
            self._host = stacked

    def get(self) -> list[float]:
        """The numbers, in their order."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host.tolist()
