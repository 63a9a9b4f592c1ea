"""What GPUs can do and cost: published peaks, and prices that are only a first guess.

No stage imports this, so a price may be edited without anything being trained again.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanochat.model.peaks import PEAK_FLOPS


@dataclass(frozen=True)
class GPU:
    """One device. GB are 10^9 bytes."""

    name: str
    peak_flops: float
    memory_bytes: int
    dollars_per_hour: float


# Memory: the same data sheets as the peaks, and HGX B200's (180 GB). Prices move from week to week and differ
# fourfold between providers: A100 and H100 are what nanochat's report counted with in 2025 (8 x H100 = $24),
# H200 and B200 RunPod's list of October 2026, RTX 4090 RunPod's on demand of March 2026.
GPUS: dict[str, GPU] = {
    "a100": GPU("A100 80 GB SXM", PEAK_FLOPS["a100"], 80 * 10**9, 1.79),
    "h100": GPU("H100 SXM", PEAK_FLOPS["h100"], 80 * 10**9, 3.00),
    "h200": GPU("H200 SXM", PEAK_FLOPS["h200"], 141 * 10**9, 4.59),
    "b200": GPU("B200 SXM", PEAK_FLOPS["b200"], 180 * 10**9, 6.79),
    "4090": GPU("RTX 4090", PEAK_FLOPS["4090"], 24 * 10**9, 0.60),
}
