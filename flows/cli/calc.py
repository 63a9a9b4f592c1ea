"""``nanochat calc``: what a model has, takes and costs, before anything is spent."""

from __future__ import annotations

from typing import Any

from artifacts.errors import UsageError
from flows.cli.options import Json, Overrides
from flows.cli.output import print_json, print_table
from flows.params import parse_overrides
from flows.suggest import unknown
from nanochat.config.pipeline import Resolution
from nanochat.model.estimate import MEMORY_PARTS, RULES_ONLY, SPARE, estimate
from nanochat.model.hardware import GPU, GPUS
from nanochat.report.formatting import duration, size


def calc(
    preset: str | None = None,
    /,
    *,
    depth: int | None = None,
    overrides: Overrides = None,
    gpu: str = "h100",
    gpus: int | None = None,
    mfu: float = 0.5,
    price: float | None = None,
    peak_tflops: float | None = None,
    memory_gb: float | None = None,
    json: Json = False,
) -> int:
    """Compute parameters, FLOPs, time, price and memory of pretraining a model. Nothing is built.

    Parameters
    ----------
    preset
        Which model; nanochat presets lists them. Without it: what follows from --depth alone.
    depth
        Layers, instead of the preset's.
    gpu
        a100, h100, h200, b200 or 4090.
    gpus
        How many; default: the preset's.
    mfu
        Share of the GPUs' bf16 peak that training reaches. nanochat measured 0.41 at depth 12, 0.48 at 24.
    price
        Dollars an hour of one GPU; the defaults are a guess.
    peak_tflops
        The GPU's dense bf16 peak, if it is another GPU.
    memory_gb
        The GPU's memory, likewise.
    """
    if preset is None and depth is None:
        raise UsageError("of which model?", "nanochat calc d12, or nanochat calc --depth 12")
    values = parse_overrides(overrides or [])
    values |= {key: value for key, value in (("depth", depth), ("nproc", gpus)) if value is not None}
    resolution = Resolution(preset or RULES_ONLY, values)
    card = _card(gpu, price, peak_tflops, memory_gb)
    if not 0 < mfu <= 1:
        raise UsageError(f"--mfu {mfu:g}", "a share of the peak, above 0 and at most 1")
    found = estimate(resolution, card, mfu)
    if json:
        print_json(found)
    else:
        _show(found)
    return 0


def _card(name: str, price: float | None, peak_tflops: float | None, memory_gb: float | None) -> GPU:
    if name not in GPUS:
        raise unknown("GPU", name, GPUS)
    for option, value in (("price", price), ("peak-tflops", peak_tflops), ("memory-gb", memory_gb)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{option} {value:g}", "a number above 0")
    card = GPUS[name]
    return GPU(
        card.name, peak_tflops * 1e12 if peak_tflops else card.peak_flops,
        round(memory_gb * 1e9) if memory_gb else card.memory_bytes, price or card.dollars_per_hour,
    )  # fmt: skip


def _show(found: dict[str, Any]) -> None:
    model, gpu, total = found["model"], found["gpu"], found["parameters"]["total"]
    print(
        f"depth {model['depth']}, width {model['width']}, {model['num_heads']} heads,"
        f" vocabulary {model['vocab_size']:,}, context {model['seq_len']:,}"
    )
    counts = {**found["parameters"], "scaling (matrices and head)": found["scaling_parameters"]}
    print_table(
        ("parameters", "number", "share"),
        [(name.replace("_", " "), f"{number:,}", f"{number / total:.1%}") for name, number in counts.items()],
    )
    tokens = found["tokens"]
    print_table(
        ("pretraining", ""),
        [
            ("FLOPs per token", f"{found['flops_per_token']:.4g}"),
            ("tokens", f"{tokens:,} ({tokens / found['scaling_parameters']:.3g} per scaling parameter)"),
            ("steps", f"{found['steps']:,} of {found['batch_tokens']:,} tokens"),
            ("FLOPs", f"{found['flops']:.3g}"),
            ("on", f"{found['gpus']} x {gpu['name']},"
             f" {found['mfu']:.0%} of {gpu['peak_flops'] / 1e12:g} TFLOPS"),
            ("tokens per second", f"{found['tokens_per_second']:,.0f}"),
            ("time", duration(found["seconds"])),
            ("price", f"${found['dollars']:,.2f} at ${gpu['dollars_per_hour']:.2f} an hour and GPU"),
        ],
    )  # fmt: skip
    _show_memory(found)


def _show_memory(found: dict[str, Any]) -> None:
    memory, gpu = found["memory"], found["gpu"]
    rows = [(text, size(memory[part])) for part, text in MEMORY_PARTS.items() if memory[part]]
    fits = "fits" if found["fits"] else "DOES NOT FIT"
    rows.append(("peak", f"{size(memory['peak'])} of {size(gpu['memory_bytes'])}: {fits}"))
    print_table((f"memory of one GPU, {found['micro_batch']} rows a pass", ""), rows)
    largest = found["largest_micro_batch"]
    print(
        f"largest micro_batch: {largest['plain']} rows, {largest['checkpointing']} with"
        f" base.activation_checkpointing=true ({SPARE:.0%} of the memory stays free)"
    )
    per_token, whole = size(found["kv_cache_bytes_per_token"]), size(found["kv_cache_bytes"])
    print(
        f"KV cache: {per_token} a token up to the windows, {whole} for {found['model']['seq_len']:,} tokens"
    )
    print("Computed, not measured: no GPU was asked, and torch.compile keeps less.")
