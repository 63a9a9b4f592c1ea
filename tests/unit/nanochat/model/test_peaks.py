from __future__ import annotations

import pytest

from nanochat.model.peaks import PEAK_FLOPS, peak_flops


@pytest.mark.parametrize(
    ("device", "key"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100"), ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"), ("NVIDIA GeForce RTX 4090", "4090"),
    ],
)  # fmt: skip
def test_a_gpu_is_known_by_the_name_that_cuda_has_for_it(device: str, key: str) -> None:
    assert peak_flops(device) == PEAK_FLOPS[key]


def test_of_an_unknown_gpu_no_peak_is_claimed() -> None:
    assert peak_flops("Tesla T4") == peak_flops("NVIDIA H100 PCIe") == 0
