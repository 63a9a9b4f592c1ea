"""Pretraining against nanochat's: the same text, vocabulary, model shape and batch on both sides.

    NANOCHAT_PEER=CHECKOUT python benchmarks/train.py [--only PARTS] [--depth 4] [--rounds 5]

Prints one JSON document. The peer is nanochat at 92d63d4, unmodified, in the interpreter NANOCHAT_PEER_PYTHON
(see peers.txt). Parts:

speed    tokens a second of ours and of nanochat as it ships on a CPU (fp32, compiled) and in its bf16 mode:
         medians of interleaved rounds; a side that does not run is stopped (SIGSTOP). Also the peak of
         resident memory, and the loss after the same number of steps (a moving average).
launch   seconds from starting the base stage, as the pipeline starts it, to its first finished step, without
         and with what an earlier start left behind.
quality  val_bpb after --tokens tokens for every one of --seeds, both models measured by the same code on the
         same batches. Takes long, so only when asked for by ``--only quality``.
gpu      speed on one GPU (--gpu-depth, sequence 2048), and the share of its peak (MFU).
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import queue
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from loader import ROOT, VOCAB_SIZE, peer_command, prepare

STEP = re.compile(r"\bstep (\d+)/\d+.*\bloss:? ([\d.]+)")
WARM_UP_STEPS = 3
WAIT_S = 1800
NANOCHAT_NAMES = {
    "embedding.weight": "transformer.wte.weight", "head.weight": "lm_head.weight",
    "residual_scale": "resid_lambdas", "skip_scale": "x0_lambdas", "smear_gate.weight": "smear_gate.weight",
    "smear_scale": "smear_lambda", "backout_scale": "backout_lambda",
}  # fmt: skip
NANOCHAT_PARTS = {
    "blocks": "transformer.h", "attention.query": "attn.c_q", "attention.key": "attn.c_k",
    "attention.value_gate": "attn.ve_gate", "attention.value": "attn.c_v", "attention.out": "attn.c_proj",
    "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj", "value_embeddings": "value_embeds",
}  # fmt: skip


class Side:
    """One training process: stopped between rounds, watched by the lines that it prints for every step."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.name, self.losses, self.log = name, [], folder / f"{name}.log"  # type: str, list[float], Path
        self._arrivals: queue.Queue[float | None] = queue.Queue()
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.log.open("w") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                if match := STEP.search(line):
                    self.losses.append(float(match[2]))
                    self._arrivals.put(time.perf_counter())
        self._arrivals.put(None)

    def steps(self, count: int) -> float:
        """Wait for ``count`` more steps; when the last one was printed."""
        for _ in range(count):
            if (arrived := self._arrivals.get(timeout=WAIT_S)) is None:
                raise RuntimeError(f"{self.name} ended early: {self.log.read_text()[-2000:]}")
        return arrived or 0.0

    def loss(self, steps: int) -> float:
        """The training loss after so many steps, as nanochat prints it: a moving average."""
        if self.name != "ours":
            return self.losses[steps - 1]
        average = 0.0
        for loss in self.losses[:steps]:
            average = 0.9 * average + 0.1 * loss
        return average / (1 - 0.9**steps)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def peak_mb(self) -> int:
        """Peak of resident memory so far."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) // 1024 if found else 0

    def cpu_s(self) -> float:
        """Processor time that it has taken so far: on a busy machine steadier than the clock."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def finish(self) -> None:
        """Wait for its own end. RuntimeError with its last words if that is a failure."""
        if self.process.wait():
            raise RuntimeError(f"{self.name} ended with a failure: {self.log.read_text()[-2000:]}")

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


def our_config(
    depth: int, seq_len: int, rows: int, batch: int, steps: int, val_tokens: int, seed: int, dtype: str
) -> dict[str, Any]:
    """The base stage's config with nanochat's own rules for this batch and length."""
    from nanochat.config.derive import REFERENCE_BATCH_TOKENS, Dials, model_shape, scaling_parameters

    dials = Dials(depth=depth, seq_len=seq_len, vocab_size=VOCAB_SIZE)
    model = model_shape(dials)
    reference = scaling_parameters(model_shape(dials.model_copy(update={"depth": 12})))
    scale = math.sqrt(batch / REFERENCE_BATCH_TOKENS)
    decay = 0.28 * scale * reference / scaling_parameters(model)
    return {
        "model": model.model_dump(), "steps": steps, "batch_tokens": batch, "micro_batch": rows,
        "val_tokens": val_tokens, "eval_every": 10**9, "checkpoint_every": 10**9, "log_every": 1,
        "dtype": dtype, "seed": seed,
        "optim": {"lr_scale": scale, "weight_decay": decay},
    }  # fmt: skip


def our_job(work: Path, name: str, config: dict[str, Any]) -> Any:
    """The job of the base stage, written where the pipeline would write it."""
    from flows.launch import Job

    attempt = work / name / "attempt"
    attempt.mkdir(parents=True)
    inputs = {"tokens": str(work / "tokens"), "tokenizer": str(work / "ours")}
    output = work / name / "output"
    (attempt / "job.json").write_text(json.dumps({
        "schema": 1, "stage": "base", "config": config, "inputs": inputs, "output": str(output),
        "attempt": str(attempt),
    }))  # fmt: skip
    return Job("base", "nanochat.stages.base", attempt, torchrun=True)


def start_ours(work: Path, name: str, config: dict[str, Any], *, torchrun: bool = False) -> Side:
    """Our stage in the pipeline's environment; without torchrun it is one process that can be stopped."""
    from flows.launch import command, environment

    job = our_job(work, name, config)
    env = {**environment(job), "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-m", job.module, "--job", str(job.attempt / "job.json")]
    return Side(name, command(job) if torchrun else program, env, work)


def start_peer(work: Path, name: str, seed: int, options: dict[str, Any], **environment: str) -> Side:
    """nanochat's script with these options."""
    peer = peer_command()
    assert isinstance(peer, list)
    python, _, checkout = peer
    script = str(Path(__file__).with_name("peer_train.py"))
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "NANOCHAT_DTYPE")}
    env |= {"NANOCHAT_BASE_DIR": str(work), "PYTHONUNBUFFERED": "1", **environment}
    return Side(
        name, [python, script, checkout, str(work / "vocabulary.json"), str(seed), *arguments], env, work
    )


def peer_options(depth: int, seq_len: int, rows: int, batch: int, steps: int) -> dict[str, Any]:
    return {
        "depth": depth, "max_seq_len": seq_len, "device_batch_size": rows, "total_batch_size": batch,
        "num_iterations": steps, "eval_every": -1, "core_metric_every": -1, "sample_every": -1,
    }  # fmt: skip


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
    depth, seq_len, rows = arguments.depth, arguments.seq_len, arguments.rows
    batch = rows * seq_len
    steps = horizon(arguments)
    config = our_config(depth, seq_len, rows, batch, steps, batch, 42, "auto")
    starts = {"ours": lambda: start_ours(work, "ours_speed", config)}
    if isinstance(peer_command(), list):
        options = peer_options(depth, seq_len, rows, batch, steps)
        starts["peer_fp32"] = lambda: start_peer(work, "peer_fp32", 42, options)
        starts["peer_bf16"] = lambda: start_peer(work, "peer_bf16", 42, options, NANOCHAT_DTYPE="bfloat16")
    sides: list[Side] = []
    try:
        for name, start in starts.items():
            sides.append(start())
            sides[-1].name = name
            sides[-1].steps(WARM_UP_STEPS)
            sides[-1].send(signal.SIGSTOP)
        found = interleaved(sides, arguments.rounds, arguments.round_steps, batch)
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
    batch = arguments.rows * arguments.seq_len
    config = our_config(arguments.depth, arguments.seq_len, arguments.rows, batch, 2, batch, 42, "auto")
    os.environ["NANOCHAT_HOME"] = str(work / "home")
    seconds = {}
    for name in ("cold", "warm"):
        side = start_ours(work, f"launch_{name}", config, torchrun=True)
        seconds[f"{name}_s"] = round(side.steps(1) - side.started, 2)
        side.finish()
    return seconds


def quality(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    depth, seq_len, rows = arguments.depth, arguments.seq_len, arguments.rows
    batch, found = rows * seq_len, {"ours": [], "peer": []}  # type: int, dict[str, list[float]]
    steps = -(-arguments.tokens // batch)
    dtype = arguments.dtype
    for seed in range(42, 42 + arguments.seeds):
        config = our_config(depth, seq_len, rows, batch, steps, batch, seed, dtype)
        start_ours(work, f"quality_{seed}", config).finish()
        ours = measure(work, config, _our_weights(work / f"quality_{seed}" / "output"))
        found["ours"].append(ours)
        if isinstance(peer_command(), list):
            options = peer_options(depth, seq_len, rows, batch, steps) | {"model_tag": f"seed{seed}"}
            start_peer(work, f"peer_{seed}", seed, options, NANOCHAT_DTYPE=dtype).finish()
            saved = work / "base_checkpoints" / f"seed{seed}" / f"model_{steps:06d}.pt"
            found["peer"].append(
                measure(work, config, _renamed(torch.load(saved, weights_only=True), config))
            )
        print(json.dumps({"seed": seed, **found}), file=sys.stderr, flush=True)
    means = {name: statistics.mean(values) for name, values in found.items() if values}
    difference = round(means["ours"] - means["peer"], 4) if "peer" in means else None
    return {
        "val_bpb": found,
        "difference": difference,
        "depth": depth,
        "tokens": steps * batch,
        "dtype": dtype,
    }


def _our_weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def _renamed(weights: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """nanochat's weights under our names; the formulas are the same."""
    from nanochat.config.model import ModelConfig
    from nanochat.model.gpt import GPT

    renamed = {}
    for ours in GPT(ModelConfig.model_validate(config["model"])).state_dict():
        theirs = NANOCHAT_NAMES.get(ours, ours)
        if ours not in NANOCHAT_NAMES:
            for part, name in NANOCHAT_PARTS.items():
                theirs = theirs.replace(part, name)
        renamed[ours] = weights[theirs].float()
    return renamed


def measure(work: Path, config: dict[str, Any], weights: dict[str, Any], val_tokens: int = 131_072) -> float:
    """val_bpb of these weights, in fp32, on the first batches of the validation shard."""
    import torch

    from nanochat.config.model import ModelConfig
    from nanochat.data.loader import PretrainLoader
    from nanochat.model.gpt import GPT
    from nanochat.tokenizer.tokenizer import Tokenizer
    from nanochat.train.validate import bits_per_byte

    tokenizer = Tokenizer.load(work / "ours" / "tokenizer.json")
    model = GPT(ModelConfig.model_validate(config["model"]))
    model.load_state_dict(weights)
    loader = PretrainLoader(work / "tokens", "val", 8, model.config.seq_len, tokenizer.special("bos"), seed=0)
    batches = [loader.next() for _ in range(max(1, val_tokens // (8 * model.config.seq_len)))]
    return round(bits_per_byte(model, batches, torch.as_tensor(tokenizer.token_bytes)), 4)


def gpu(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"ratio": None, "why": "no GPU"}
    from nanochat.config.derive import Dials, model_shape
    from nanochat.model.cost import flops_per_token

    depth, rows, seq_len, batch = arguments.gpu_depth, arguments.gpu_rows, 2048, 2**19
    steps = horizon(arguments)
    config = our_config(depth, seq_len, rows, batch, steps, rows * seq_len, 42, "auto")
    sides = [start_ours(work, "ours_gpu", config)]
    sides[0].name = "ours"
    try:
        sides[0].steps(WARM_UP_STEPS)
        sides[0].send(signal.SIGSTOP)
        if isinstance(peer_command(), list):
            sides.append(start_peer(work, "peer", 42, peer_options(depth, seq_len, rows, batch, steps)))
            sides[1].steps(WARM_UP_STEPS)
            sides[1].send(signal.SIGSTOP)
        found = interleaved(sides, arguments.rounds, arguments.round_steps, batch)
    finally:
        for side in sides:
            side.end()
    flops = flops_per_token(model_shape(Dials(depth=depth)))
    for about in found.values():
        about["mfu"] = round(about["tokens_per_second"] * flops / (arguments.gpu_peak_tflops * 1e12), 3)
    ratio = (
        round(found["ours"]["tokens_per_second"] / found["peer"]["tokens_per_second"], 2)
        if "peer" in found
        else None
    )
    return {"ratio": ratio, "gpu": torch.cuda.get_device_name(), "sides": found}


def prepare_both(work: Path, megabytes: int) -> dict[str, Any]:
    """Shards, tokens and the vocabulary in the form of each side."""
    from nanochat.tokenizer.tokenizer import Tokenizer

    made = prepare(work, megabytes << 20)
    said = json.loads((work / "vocabulary.json").read_text())
    tokenizer = Tokenizer(tuple(base64.b64decode(token) for token in said["tokens"]), said["pattern"])
    (work / "ours").mkdir()
    tokenizer.save(work / "ours" / "tokenizer.json")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="speed,launch,gpu", help="parts, by commas")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--rows", type=int, default=8, help="of a batch; a step is one batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-steps", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=24, help="of text")
    parser.add_argument("--tokens", type=int, default=300_000, help="quality: trained on, of each seed")
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
        result["data"] = prepare_both(Path(folder), arguments.megabytes)
        for name in arguments.only.split(","):
            result[name] = parts[name](Path(folder), arguments)
    print(json.dumps(vars(arguments) | result, indent=1))


if __name__ == "__main__":
    main()
