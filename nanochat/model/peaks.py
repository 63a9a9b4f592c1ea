"""Published peaks of GPUs: dense bf16 with fp32 accumulation, no sparsity, FLOP/s.

NVIDIA's figures: the A100 (SXM), H100 SXM and H200 SXM data sheets, whose figures with sparsity are twice
these; the HGX B200 data sheet (4.5 PFLOPS sparse); the Ada architecture whitepaper, appendix A.
"""

from __future__ import annotations

PEAK_FLOPS = {"a100": 312e12, "h100": 989.4e12, "h200": 989.4e12, "b200": 2250e12, "4090": 165.2e12}
# Whole names: the PCIe, NVL and laptop cards of these families have other peaks.
_DEVICES = {
    "NVIDIA A100-SXM4-40GB": "a100",
    "NVIDIA A100-SXM4-80GB": "a100",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
    "NVIDIA B200": "b200",
    "NVIDIA GeForce RTX 4090": "4090",
}


def peak_flops(device_name: str) -> float:
    """Of the device that CUDA calls so; 0 for one that is not in the table."""
    return PEAK_FLOPS.get(_DEVICES.get(device_name, ""), 0.0)
