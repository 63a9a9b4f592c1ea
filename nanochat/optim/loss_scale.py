"""Dynamic loss scaling (Micikevicius et al., 2018): float16 gradients kept where they do not vanish.

The loss is multiplied by a power of two, and the gradients are divided by it before they are used. It is
halved when they overflow, a step that is then skipped, and doubled after ``GROWS_EVERY`` steps without.
"""

from __future__ import annotations

import torch
from torch import Tensor

FIRST = 2.0**16
GROWS_EVERY = 2000
LEAST = 2.0**-10  # below it overflow is no matter of the scale


class LossScale:
    """The scale as a tensor on the device: nobody waits to know it."""

    def __init__(self, device: torch.device) -> None:
        self.value = torch.tensor(FIRST, device=device)
        self._good_steps = torch.zeros((), dtype=torch.int32, device=device)

    def unscale(self, grads: list[Tensor]) -> None:
        """Divide gradients by the scale, in place."""
        torch._foreach_mul_(grads, self.value.reciprocal())

    def update(self, norm: Tensor) -> None:
        """Choose the next step's scale; ``norm`` is that of the gradients, not finite if some overflowed."""
        overflow = (~norm.isfinite()).float()
        torch._amp_update_scale_(self.value, self._good_steps, overflow, 2.0, 0.5, GROWS_EVERY)

    def state_dict(self) -> dict[str, Tensor]:
        """Live tensors."""
        return {"value": self.value, "good_steps": self._good_steps}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put back what ``state_dict`` gave."""
        self.value.copy_(state["value"])
        self._good_steps.copy_(state["good_steps"])
