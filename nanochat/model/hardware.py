"""What GPUs can do and cost: published peaks, and prices that are only a first guess.

No stage imports this, so a price may be edited without anything being trained again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GPU:
    """One device. Peak is dense bf16 with fp32 accumulation, no sparsity; GB are 10^9 bytes."""

    name: str
    peak_flops: float
    memory_bytes: int
    dollars_per_hour: float


# Peaks and memory are NVIDIA's: the A100 (80 GB SXM), H100 SXM and H200 SXM data sheets, whose figures
# with sparsity are twice these; the HGX B200 data sheet (4.5 PFLOPS sparse, 180 GB); the Ada architecture
# whitepaper, appendix A. Prices move from week to week and differ fourfold between providers: A100 and H100
# are what nanochat's report counted with in 2025 (8 x H100 = $24), H200 and B200 RunPod's list of October
# 2026, RTX 4090 RunPod's on demand of March 2026.
GPUS: dict[str, GPU] = {
    "a100": GPU("A100 80 GB SXM", 312e12, 80 * 10**9, 1.79),
    "h100": GPU("H100 SXM", 989.4e12, 80 * 10**9, 3.00),
    "h200": GPU("H200 SXM", 989.4e12, 141 * 10**9, 4.59),
    "b200": GPU("B200 SXM", 2250e12, 180 * 10**9, 6.79),
    "4090": GPU("RTX 4090", 165.2e12, 24 * 10**9, 0.60),
}
