"""Numbers of a device on their way to the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Reading:
    """Some numbers, copied when this is made; on CUDA the host waits for the copy when it asks for them."""

    def __init__(self, numbers: Sequence[float | Tensor], device: torch.device) -> None:
        exact = [torch.as_tensor(number, dtype=torch.float64, device=device) for number in numbers]
        stacked = torch.stack(exact)
        self._arrived: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._host = torch.empty(len(exact), dtype=torch.float64, pin_memory=True)
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
