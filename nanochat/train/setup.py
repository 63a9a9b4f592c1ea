"""What a training process decides before the first step: device, dtype, process group, signals."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from nanochat.runtime import StageContext
from nanochat.train.reading import Reading, on_device

logger = logging.getLogger(__name__)


def resolve_device() -> torch.device:
    """This rank's GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        return device
    return torch.device("cpu")


def resolve_dtype(requested: str, device: torch.device) -> torch.dtype:
    """The one of that name; for "auto" bfloat16 where the hardware multiplies it fast.

    Else float32 on a CPU, and float16, with a scaled loss, on a GPU: those before Ampere have no bfloat16.
    """
    if requested != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[requested]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if _cpu_multiplies_bfloat16() else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    """AVX512-BF16 or AMX: without them a bfloat16 matmul is emulated, 20 times slower than fp32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


@contextmanager
def process_group(ctx: StageContext, device: torch.device) -> Iterator[None]:
    """The collective group of all ranks (none for one rank): NCCL on GPUs, gloo on CPUs."""
    if ctx.world_size == 1:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=ctx.rank, world_size=ctx.world_size)
    try:
        yield
    finally:
        dist.destroy_process_group()


def seed_everything(seed: int, device: torch.device) -> None:
    """Same starting point for every run and rank; on the CPU, refuse kernels that are not deterministic."""
    torch.manual_seed(seed)
    # Not use_deterministic_algorithms: the same switch, but it imports the compiler (2 s in every process).
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "default")
    # The same switch fills what ``empty`` gives with NaN first: a check for tests, a seventh of a step here.
    torch.utils.deterministic.fill_uninitialized_memory = False


class StopRequest:
    """Turns SIGTERM and the first SIGINT into a flag that the loop reads between steps.

    A second SIGINT interrupts at once. The flag of any rank stops all of them at the same step.
    """

    def __init__(self, device: torch.device) -> None:
        self._asked, self._device = False, device
        self._asking: Reading | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: object) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True

    def agreed(self, late: bool = False) -> bool:
        """Whether some rank was asked to stop; a collective call when there are several.

        ``late``: the answer is that to the call before, so that the host need not wait for the others.
        """
        if not dist.is_initialized():
            return self._asked
        before, self._asking = self._asking, Reading([summed(float(self._asked), self._device)], self._device)
        heard = before if late else self._asking
        return heard is not None and heard.get()[0] > 0


def summed(value: float | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Sum of a number over all ranks, as a 0-d float64 tensor; on GPUs the host does not wait for it."""
    total = on_device(value, device)
    if dist.is_initialized():
        dist.all_reduce(total)
    return total


def all_sum(value: float, device: torch.device) -> float:
    """Sum of a number over all ranks, for the host."""
    return float(summed(value, device)) if dist.is_initialized() else value
