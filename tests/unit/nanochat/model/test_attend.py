"""One interface to attention: which implementation serves where, and that they agree."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model import attend as module
from nanochat.model.attend import attend, tier


def plain(q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None = None) -> Tensor:
    group = q.size(1) // k.size(1)
    back = torch.arange(q.size(2))[:, None] - torch.arange(q.size(2))
    mask = (back >= 0) & (back <= window)
    if documents is not None:
        mask = mask & (documents[:, None, :, None] == documents[:, None, None, :])
    return F.scaled_dot_product_attention(
        q, *(x.repeat_interleave(group, dim=1) for x in (k, v)), attn_mask=mask
    )


def documents_of(length: int) -> Tensor:
    """Three rows: one document, two, and many short ones."""
    position = torch.arange(length)
    return torch.stack((0 * position, (position >= length // 3).long(), position // 7))


def inputs(length: int, kv_heads: int = 2, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(length)
    shapes = [(3, length, heads, 16) for heads in (4, kv_heads, kv_heads)]
    return [torch.randn(shape).to(dtype).transpose(1, 2).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(
    ("device_type", "capability", "dtype", "has_fa3", "expected"),
    [
        ("cpu", None, torch.bfloat16, True, "sdpa"),
        ("mps", None, torch.float32, False, "sdpa"),
        ("cuda", (9, 0), torch.bfloat16, True, "fa3"),
        ("cuda", (9, 0), torch.float16, True, "fa3"),
        ("cuda", (9, 0), torch.float32, True, "flex"),
        ("cuda", (9, 0), torch.bfloat16, False, "flex"),
        ("cuda", (8, 0), torch.bfloat16, True, "flex"),
        ("cuda", (12, 0), torch.bfloat16, True, "flex"),
    ],
)
def test_the_best_tier_that_the_machine_has(
    device_type: str, capability: tuple[int, int] | None, dtype: torch.dtype, has_fa3: bool, expected: str
) -> None:
    assert tier(device_type, capability, dtype, has_fa3) == expected
    masked = tier(device_type, capability, dtype, has_fa3, documents=True)
    assert masked == ("flex" if expected == "fa3" else expected)
    any_length = tier(device_type, capability, dtype, has_fa3, whole_blocks=False)
    assert any_length == ("sdpa" if expected == "flex" else expected)


@pytest.mark.parametrize("length", [1, 127, 128, 300])
@pytest.mark.parametrize("window", [1, 100, 128, 299, 512])
@pytest.mark.parametrize("in_chunks", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_values_and_gradients_equal_a_plain_mask(
    length: int, window: int, in_chunks: bool, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_IN_CHUNKS", 1024 if in_chunks else 0)
    tensors, documents = inputs(length), documents_of(length) if masked else None
    mine, theirs = attend(*tensors, window, documents), plain(*tensors, window, documents)
    grad = torch.randn_like(mine)
    assert torch.allclose(mine, theirs, atol=1e-5)
    for got, expected in zip(
        torch.autograd.grad(mine, tensors, grad), torch.autograd.grad(theirs, tensors, grad), strict=True
    ):
        assert torch.allclose(got, expected, atol=1e-5)


def test_half_precision_is_as_near_to_exact_as_the_library_kernel() -> None:
    tensors = inputs(300, kv_heads=4, dtype=torch.bfloat16)
    exact = plain(*(x.double() for x in tensors), 128)
    mine, theirs = ((f(*tensors, 128) - exact).norm() / exact.norm() for f in (attend, plain))
    assert mine <= 1.5 * theirs


def test_flex_attention_equals_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    monkeypatch.setattr(module, "_compiled_flex", lambda: flex_attention)
    with torch.no_grad():
        tensors = [x.detach() for x in inputs(200)]
        for documents in (None, documents_of(200)):
            mine, theirs = module._flex(*tensors, 100, documents), plain(*tensors, 100, documents)
            assert torch.allclose(mine, theirs, atol=1e-5)
