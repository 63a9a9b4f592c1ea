"""Products in 8 bits: near those of fp32, forward and backward; the layouts of a GPU; what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from artifacts.errors import ResourceError, UsageError
from nanochat.config.model import ModelConfig
from nanochat.config.optim import OptimConfig
from nanochat.model.attention import Linear, SquaredReLULinear
from nanochat.model.fp8 import (
    E4M3,
    E5M2,
    gradients,
    multiply_in_fp8,
    output,
    require_hopper,
    scale_of,
    to_fp8,
)
from nanochat.model.gpt import GPT
from nanochat.optim.build import build_optimizer

SHAPE = ModelConfig(depth=2, width=128, num_heads=2, num_kv_heads=2, vocab_size=96, seq_len=32)
ROUNDING = {E4M3: 2**-4, E5M2: 2**-3}  # half the distance of two neighbours, relative to the smaller one
SMALLEST_NORMAL = {E4M3: 2**-6, E5M2: 2**-14}


def layer(kind: type[Linear], inputs: int = 192, outputs: int = 128) -> Linear:
    made = kind(inputs, outputs)
    multiply_in_fp8(torch.nn.ModuleList([made]), 16)
    return made


def plain(made: Linear, x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(F.relu(x).square() if isinstance(made, SquaredReLULinear) else x, weight)


def away(mine: Tensor, exact: Tensor) -> float:
    mine, exact = mine.detach().double(), exact.detach().double()
    return float((mine - exact).norm() / exact.norm())


def outliers(x: Tensor) -> Tensor:
    """Ten values a hundred times as large as the others."""
    flat = x.clone().flatten()
    flat[:: flat.numel() // 10][:10] *= 100
    return flat.view_as(x)


DATA: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda x: x, "outliers": outliers, "tiny": lambda x: x * 1e-10, "huge": lambda x: x * 1e6,
}  # fmt: skip


@pytest.mark.parametrize("kind", [Linear, SquaredReLULinear])
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_gradients_are_those_of_fp32_to_rounding(
    kind: type[Linear], data: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    made = layer(kind)
    x = DATA[data](torch.randn(2, 48, 192)).to(dtype).requires_grad_()
    exact_x, exact_weight = (t.detach().double().requires_grad_() for t in (x, made.weight))
    mine, exact = made(x), plain(made, exact_x, exact_weight)
    grad = DATA[data](torch.randn(2, 48, 128)).to(dtype)
    by_x, by_weight = torch.autograd.grad(mine, (x, made.weight), grad)
    exact_by_x, exact_by_weight = torch.autograd.grad(exact, (exact_x, exact_weight), grad.double())
    assert (mine.dtype, by_x.dtype, by_weight.dtype) == (dtype, dtype, torch.float32)
    assert (mine.shape, by_x.shape, by_weight.shape) == (exact.shape, x.shape, made.weight.shape)
    assert away(mine, exact) <= 0.05
    assert away(by_x, exact_by_x) <= 0.08
    assert away(by_weight, exact_by_weight) <= 0.08
    assert away(mine, exact) > 0.005  # else it was not multiplied in 8 bits


@pytest.mark.parametrize("kind", [Linear, SquaredReLULinear])
def test_a_gradient_in_any_layout_is_the_same_gradient(kind: type[Linear]) -> None:
    torch.manual_seed(1)
    made, x = layer(kind), torch.randn(4, 16, 192, requires_grad=True)
    grad = torch.randn(128, 16, 4)
    layouts = [grad.permute(2, 1, 0), grad.permute(2, 1, 0).contiguous()]
    first, second = (torch.autograd.grad(made(x), (x, made.weight), g) for g in layouts)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    expanded = torch.autograd.grad(made(x).sum(), made.weight)[0]
    assert torch.equal(expanded, torch.autograd.grad(made(x), made.weight, torch.ones(4, 16, 128))[0])
    turned = x.detach().transpose(0, 1)
    assert torch.equal(made(turned), made(turned.contiguous()))


@pytest.mark.parametrize("kind", [Linear, SquaredReLULinear])
@pytest.mark.parametrize("zero", ["x", "weight", "grad"])
def test_of_zeros_come_zeros(kind: type[Linear], zero: str) -> None:
    torch.manual_seed(2)
    made, x, grad = layer(kind), torch.randn(32, 192, requires_grad=True), torch.randn(32, 128)
    with torch.no_grad():
        {"x": x, "weight": made.weight, "grad": grad}[zero].zero_()
    out = made(x)
    by_x, by_weight = torch.autograd.grad(out, (x, made.weight), grad)
    assert all(tensor.isfinite().all() for tensor in (out, by_x, by_weight))
    assert bool(out.any()) == (zero == "grad")
    assert bool(by_weight.any()) == (zero == "weight")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    made, x = layer(Linear), torch.randn(32, 192)
    x[3, 5] = bad
    assert not made(x)[3].isfinite().any()


@pytest.mark.parametrize("dtype", [E4M3, E5M2])
@pytest.mark.parametrize("largest", [1e-20, 3e-7, 1.0, 1.999, 448.0, 449.0, 57344.0, 3e38])
def test_the_largest_value_ends_in_the_last_octave_of_the_format(dtype: torch.dtype, largest: float) -> None:
    torch.manual_seed(3)
    x = (torch.rand(1000) * 2 - 1) * largest
    x[7] = -largest
    scale, most = scale_of(x, dtype), torch.finfo(dtype).max
    exact = x.double() * scale.double()
    assert most / 2 < exact.abs().max() <= most
    assert torch.frexp(scale).mantissa == 0.5
    error = (to_fp8(x, scale, dtype).double() - exact).abs()
    assert (error <= ROUNDING[dtype] * exact.abs().clamp_min(SMALLEST_NORMAL[dtype])).all()
    for half in (x.bfloat16(), x.half()) if largest < 6e4 else (x.bfloat16(),):
        rounded_once = (half.double() * scale.double()).clamp(-most, most).to(dtype)
        assert torch.equal(to_fp8(half, scale, dtype).double(), rounded_once.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("turned", [False, True])
def test_a_gpu_takes_the_layouts(dtype: torch.dtype, turned: bool) -> None:
    with FakeTensorMode():  # no numbers, but what the device asks of types and strides
        weight_OI = torch.empty(128, 192, device="cuda")
        x, grad = (torch.empty(2, 48, size, device="cuda", dtype=dtype) for size in (192, 128))
        if turned:
            x, grad = x.transpose(0, 1).contiguous().transpose(0, 1), grad.mT.contiguous().mT
        scales = scale_of(x, E4M3), scale_of(weight_OI, E4M3)
        out = output(x, weight_OI, *scales)
        by_x, by_weight = gradients(grad, x, weight_OI, *scales)
    assert (out.shape, by_x.shape, by_weight.shape) == (grad.shape, x.shape, weight_OI.shape)
    assert (out.dtype, by_x.dtype, by_weight.dtype) == (dtype, dtype, torch.float32)


@pytest.mark.needs("cuda")
@pytest.mark.parametrize("kind", [Linear, SquaredReLULinear])
def test_a_gpu_computes_what_the_cpu_does(kind: type[Linear]) -> None:
    torch.manual_seed(4)
    made, x = layer(kind), torch.randn(4, 64, 192).bfloat16().requires_grad_()
    grad = torch.randn(4, 64, 128).bfloat16()
    mine = (out := made(x), *torch.autograd.grad(out, (x, made.weight), grad))
    made, x = made.cuda(), x.detach().cuda().requires_grad_()
    theirs = (out := made(x), *torch.autograd.grad(out, (x, made.weight), grad.cuda()))
    assert all(away(b.cpu(), a) < 0.01 for a, b in zip(mine, theirs, strict=True))


def gpt(config: ModelConfig = SHAPE) -> GPT:
    model = GPT(config)
    model.init_weights(torch.Generator().manual_seed(5))
    return model


def test_the_large_matrices_of_the_blocks_are_chosen_and_nothing_else() -> None:
    model = gpt()
    before = dict(model.state_dict())
    names = multiply_in_fp8(model.blocks, SHAPE.seq_len)
    assert names == [
        f"{block}.{matrix}" for block in (0, 1)
        for matrix in ("attention.query", "attention.key", "attention.value", "attention.out", "mlp.up",
                       "mlp.down")
    ]  # fmt: skip
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(
        after[name] is not None and after[name].data_ptr() == before[name].data_ptr() for name in before
    )
    gates = [m for name, m in model.named_modules() if name.endswith("gate") or name == "head"]
    assert len(gates) == 3
    assert all(type(gate) is Linear for gate in gates)


def test_without_gradients_products_are_the_ordinary_ones() -> None:
    model, tokens = gpt(), torch.randint(0, 96, (2, 32))
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.down.weight.normal_(std=0.1)
        before = model(tokens)
    multiply_in_fp8(model.blocks, 32)
    with torch.no_grad():
        assert torch.equal(model(tokens), before)
    assert not torch.equal(model(tokens), before)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (lambda: require_hopper((8, 9)), "needs a GPU of compute capability 9.0 .Hopper., this one has 8.9"),
        (lambda: multiply_in_fp8(gpt().blocks, 40), "seq_len = 40 is not a multiple of 16"),
        (lambda: multiply_in_fp8(gpt(SHAPE.model_copy(update={"width": 120})).blocks, 32), "no matrix"),
        (lambda: multiply_in_fp8(gpt(SHAPE.model_copy(update={"width": 64})).blocks, 32), "no matrix"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_in_one_line(refused: Callable[[], Any], said: str) -> None:
    with pytest.raises((ResourceError, UsageError), match=said) as caught:
        refused()
    assert "\n" not in str(caught.value)
    assert caught.value.hint.startswith("set fp8=false")
    require_hopper((9, 0))
    require_hopper((12, 0))


def test_a_model_learns_in_fp8_what_it_learns_without() -> None:
    """Few tokens: there are CPUs on which a product of 8-bit numbers takes a thousand times as long."""

    def losses(fp8: bool, steps: int = 8, checkpointing: bool = False) -> list[float]:
        model, generator = gpt(SHAPE.model_copy(update={"depth": 1})), torch.Generator().manual_seed(6)
        if fp8:
            multiply_in_fp8(model.blocks, 32)
        model.checkpointing = checkpointing
        optimizer, seen = build_optimizer(model, OptimConfig(lr_scale=2.0)), []
        for step in range(steps):
            tokens = (torch.randint(0, 96, (2, 1), generator=generator) + torch.arange(33)) % 96
            optimizer.set_progress(step, 8)
            optimizer.zero_grad()
            loss = model.loss(tokens[:, :-1], tokens[:, 1:])
            loss.backward()
            optimizer.step()
            seen.append(float(loss.detach()))
        return seen

    exact, mine = losses(fp8=False), losses(fp8=True)
    assert exact[-1] < 0.1 * exact[0]
    assert all(a != b for a, b in zip(mine[1:], exact[1:], strict=True))
    assert max(abs(a - b) / b for a, b in zip(mine, exact, strict=True)) <= 0.03
    assert losses(fp8=True, steps=2, checkpointing=True) == mine[:2]
