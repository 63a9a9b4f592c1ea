"""Pretraining against nanochat's: the same text, vocabulary, model shape and batch on both sides.

    NANOCHAT_PEER=CHECKOUT python benchmarks/train.py [--only PARTS] [--depth 4] [--rounds 5]

Prints one JSON document. The peer is nanochat at 92d63d4, unmodified, in the interpreter NANOCHAT_PEER_PYTHON
(see peers.txt). Parts:

speed    tokens a second of ours and of nanochat as it ships on a CPU (fp32, compiled) and in its bf16 mode:
         medians of interleaved rounds; a side that does not run is stopped (SIGSTOP). Also the peak of
         resident memory, and the loss after the same number of steps (a moving average).
launch   seconds from starting the base stage, as the pipeline starts it, to its first finished step, without
         and with what an earlier start left behind.
quality  val_bpb after --tokens tokens for every one of --depths and --seeds, both models measured by the same
         code on the same batches. Takes long, so only when asked for by ``--only quality``.
gpu      speed on one GPU (--gpu-depth, sequence 2048), and the share of its peak (MFU).
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import statistics
import tempfile
from pathlib import Path
from typing import Any

from loader import VOCAB_SIZE, peer_command, prepare
from train_quality import quality
from train_sides import Setting, Side, our_config, peer_options, start_ours, start_peer

WARM_UP_STEPS = 3


def interleaved(sides: list[Side], rounds: int, steps: int, batch: int) -> dict[str, Any]:
    """Rounds of ``steps`` steps of each side in turn, the others stopped; every side is warm already."""
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    cpu_rates: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            side.send(signal.SIGCONT)
            start, cpu = side.steps(1), side.cpu_s()  # the one in which it was stopped
            rates[side.name].append(batch * steps / (side.steps(steps) - start))
            cpu_rates[side.name].append(batch * steps / (side.cpu_s() - cpu))
            side.send(signal.SIGSTOP)
    common = min(len(side.losses) for side in sides)
    return {
        side.name: {
            "tokens_per_second": round(statistics.median(rates[side.name])),
            "from_to": [round(min(rates[side.name])), round(max(rates[side.name]))],
            "tokens_per_cpu_second": round(statistics.median(cpu_rates[side.name])),
            "peak_mb": side.peak_mb(),
            "loss": round(side.loss(common), 4),
            "steps": common,
        }
        for side in sides
    }  # fmt: skip


def horizon(arguments: argparse.Namespace) -> int:
    """Steps that the sides plan for: never reached, and long enough for both to have the same warm-up."""
    return max(200, WARM_UP_STEPS + arguments.rounds * (arguments.round_steps + 1) + 20)


def speed(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    setting = Setting(
        arguments.depth, arguments.vocab_size, arguments.seq_len, arguments.rows, horizon(arguments)
    )
    config = our_config(setting)
    starts = {"ours": lambda: start_ours(work, "ours_speed", config)}
    if isinstance(peer_command(), list):
        options = peer_options(setting)
        starts["peer_fp32"] = lambda: start_peer(work, "peer_fp32", 42, options)
        starts["peer_bf16"] = lambda: start_peer(work, "peer_bf16", 42, options, NANOCHAT_DTYPE="bfloat16")
    sides: list[Side] = []
    try:
        for name, start in starts.items():
            sides.append(start())
            sides[-1].name = name
            sides[-1].steps(WARM_UP_STEPS)
            sides[-1].send(signal.SIGSTOP)
        found = interleaved(sides, arguments.rounds, arguments.round_steps, setting.batch)
    finally:
        for side in sides:
            side.end()
    return {"sides": found, **ratios(found)}


def ratios(found: dict[str, Any]) -> dict[str, Any]:
    if "peer_fp32" not in found:
        return {"ratio": None, "why": peer_command()}
    ours, fp32, bf16 = (found[name] for name in ("ours", "peer_fp32", "peer_bf16"))
    return {
        "ratio": round(ours["tokens_per_second"] / fp32["tokens_per_second"], 2),
        "ratio_to_its_bf16_mode": round(ours["tokens_per_second"] / bf16["tokens_per_second"], 2),
        "ratios_by_cpu_time": [
            round(ours["tokens_per_cpu_second"] / peer["tokens_per_cpu_second"], 2) for peer in (fp32, bf16)
        ],
        "peak_memory_ratio": round(ours["peak_mb"] / fp32["peak_mb"], 2),
        "loss_difference": round(ours["loss"] - fp32["loss"], 4),
    }


def launch(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    config = our_config(
        Setting(arguments.depth, arguments.vocab_size, arguments.seq_len, arguments.rows, steps=2)
    )
    os.environ["NANOCHAT_HOME"] = str(work / "home")
    seconds = {}
    for name in ("cold", "warm"):
        side = start_ours(work, f"launch_{name}", config, torchrun=True)
        seconds[f"{name}_s"] = round(side.steps(1) - side.started, 2)
        side.finish()
    return seconds


def gpu(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"ratio": None, "why": "no GPU"}
    from nanochat.config.derive import Dials, model_shape
    from nanochat.model.cost import flops_per_token

    rows, seq_len = arguments.gpu_rows, 2048
    setting = Setting(
        arguments.gpu_depth, arguments.vocab_size, seq_len, rows, horizon(arguments),
        passes=2**19 // (rows * seq_len),
    )  # fmt: skip
    config = our_config(setting)
    sides = [start_ours(work, "ours_gpu", config)]
    sides[0].name = "ours"
    try:
        sides[0].steps(WARM_UP_STEPS)
        sides[0].send(signal.SIGSTOP)
        if isinstance(peer_command(), list):
            sides.append(start_peer(work, "peer", 42, peer_options(setting)))
            sides[1].steps(WARM_UP_STEPS)
            sides[1].send(signal.SIGSTOP)
        found = interleaved(sides, arguments.rounds, arguments.round_steps, setting.batch)
    finally:
        for side in sides:
            side.end()
    flops = flops_per_token(model_shape(Dials(depth=setting.depth, vocab_size=setting.vocab_size)))
    for about in found.values():
        about["mfu"] = round(about["tokens_per_second"] * flops / (arguments.gpu_peak_tflops * 1e12), 3)
    ratio = (
        round(found["ours"]["tokens_per_second"] / found["peer"]["tokens_per_second"], 2)
        if "peer" in found
        else None
    )
    return {"ratio": ratio, "gpu": torch.cuda.get_device_name(), "sides": found}


def prepare_both(work: Path, megabytes: int, vocab_size: int) -> dict[str, Any]:
    """Shards, tokens and the vocabulary in the form of each side."""
    from nanochat.tokenizer.tokenizer import Tokenizer

    made = prepare(work, megabytes << 20, vocab_size)
    said = json.loads((work / "vocabulary.json").read_text())
    tokenizer = Tokenizer(tuple(base64.b64decode(token) for token in said["tokens"]), said["pattern"])
    (work / "ours").mkdir()
    tokenizer.save(work / "ours" / "tokenizer.json")
    return made


def _depths(text: str) -> list[int]:
    return [int(depth) for depth in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="speed,launch,gpu", help="parts, by commas")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--vocab-size", type=int, default=VOCAB_SIZE)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--rows", type=int, default=8, help="of a batch; a step is one batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-steps", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=24, help="of text")
    parser.add_argument("--tokens", type=int, default=300_000, help="quality: trained on, of each seed")
    parser.add_argument("--depths", type=_depths, default=[2, 4, 6], help="quality, by commas")
    parser.add_argument("--aspect-ratio", type=int, default=64, help="quality: width per layer")
    parser.add_argument("--head-dim", type=int, default=128, help="quality")
    parser.add_argument("--seeds", type=int, default=3, help="quality")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="quality: both sides"
    )
    parser.add_argument("--gpu-depth", type=int, default=12)
    parser.add_argument("--gpu-rows", type=int, default=32)
    parser.add_argument("--gpu-peak-tflops", type=float, default=989.0, help="bf16, dense")
    arguments = parser.parse_args()
    parts = {"speed": speed, "launch": launch, "quality": quality, "gpu": gpu}
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        result["data"] = prepare_both(Path(folder), arguments.megabytes, arguments.vocab_size)
        for name in arguments.only.split(","):
            result[name] = parts[name](Path(folder), arguments)
    print(json.dumps(vars(arguments) | result, indent=1))


if __name__ == "__main__":
    main()
