"""The two sides of ``benchmarks/train.py``, our base stage and nanochat's script, as watched processes."""

from __future__ import annotations

import json
import math
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loader import ROOT, peer_command

STEP = re.compile(r"\bstep (\d+)/\d+.*\bloss:? ([\d.]+)")
WAIT_S = 1800


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


@dataclass(frozen=True)
class Setting:
    """What both sides train: a shape, and steps of ``passes`` times ``rows`` rows."""

    depth: int
    vocab_size: int
    seq_len: int
    rows: int
    steps: int
    passes: int = 1
    aspect_ratio: int = 64
    head_dim: int = 128

    @property
    def batch(self) -> int:
        """Tokens of a step."""
        return self.passes * self.rows * self.seq_len


def our_config(setting: Setting, seed: int = 42, dtype: str = "auto") -> dict[str, Any]:
    """The base stage's config with nanochat's own rules for this batch and length."""
    from nanochat.config.derive import REFERENCE_BATCH_TOKENS, Dials, model_shape, scaling_parameters

    shape = ("depth", "vocab_size", "seq_len", "aspect_ratio", "head_dim")
    dials = Dials(**{name: getattr(setting, name) for name in shape})
    rows, batch = setting.rows, setting.batch
    model = model_shape(dials)
    reference = scaling_parameters(model_shape(dials.model_copy(update={"depth": 12})))
    scale = math.sqrt(batch / REFERENCE_BATCH_TOKENS)
    decay = 0.28 * scale * reference / scaling_parameters(model)
    return {
        "model": model.model_dump(), "steps": setting.steps, "batch_tokens": batch, "micro_batch": rows,
        "val_tokens": rows * setting.seq_len, "eval_every": 10**9, "checkpoint_every": 10**9, "log_every": 1,
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


def start_ours(
    work: Path, name: str, config: dict[str, Any], *, torchrun: bool = False, **extra: str
) -> Side:
    """Our stage in the pipeline's environment; without torchrun it is one process that can be stopped."""
    from flows.launch import command, environment

    job = our_job(work, name, config)
    env = {**environment(job), "PYTHONPATH": str(ROOT), **extra}
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


def peer_options(setting: Setting) -> dict[str, Any]:
    """The same for nanochat's script, without its evaluations."""
    return {
        "depth": setting.depth, "aspect_ratio": setting.aspect_ratio, "head_dim": setting.head_dim,
        "max_seq_len": setting.seq_len, "device_batch_size": setting.rows, "total_batch_size": setting.batch,
        "num_iterations": setting.steps, "eval_every": -1, "core_metric_every": -1, "sample_every": -1,
    }  # fmt: skip
