"""The training loop that every stage shares: steps, records, checkpoints, validation, stopping.

A stage brings a model, an optimizer, a loader and two functions: the gradient step's batches and what
to measure. The loop brings what must never differ between stages: a checkpoint before each evaluation,
on SIGTERM and every ``checkpoint_every`` steps; exact resume; no step from a loss or a
gradient that is not finite.

Checkpoints are written while training or the evaluation goes on. A kill goes back to the newest one whose
write had ended; a stop on SIGTERM, an error and the end of the run wait for the write.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from nanochat.faults import planned_fault
from nanochat.model.cost import flops_per_token
from nanochat.model.gpt import GPT
from nanochat.model.peaks import peak_flops
from nanochat.optim.build import MuonAdamW
from nanochat.records import NAMES, RecordWriter
from nanochat.runtime import STOPPED_EXIT_CODE, StageContext
from nanochat.train.resume import newest_checkpoint
from nanochat.train.setup import StopRequest
from nanochat.train.state import TrainState
from nanochat.train.step_log import StepLog, StepResult
from nanochat.train.writer import CheckpointWriter

logger = logging.getLogger(__name__)


class Loader(Protocol):
    """A source of batches with an exact position."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> object: ...


@dataclass(frozen=True)
class Pace:
    """How long, and how often to look. The last three never change the result."""

    steps: int
    eval_every: int
    checkpoint_every: int
    log_every: int
    keep_checkpoints: int = 2


@dataclass
class Curve:
    """The course of a run, part of the payload: deterministic, a function of steps only."""

    val_metric: str
    train: list[tuple[int, float]] = field(default_factory=list)
    val: list[tuple[int, float]] = field(default_factory=list)
    tokens: int = 0

    def save(self, path: Path) -> None:
        """Write losses.json."""
        path.write_text(json.dumps({"val_metric": self.val_metric, "train": self.train, "val": self.val}))


@dataclass
class Trainer:
    """One run of one stage. ``compute_gradients(step)`` leaves gradients on the parameters."""

    ctx: StageContext
    stage: str
    model: GPT
    optimizer: MuonAdamW
    loader: Loader
    pace: Pace
    val_metric: str
    compute_gradients: Callable[[int], StepResult]
    measure: Callable[[], float]
    ahead: bool = True
    """Nothing in a step needs the host, so that on a GPU its numbers are read while the next one runs."""

    def run(self) -> Curve:
        """Train to the last step, or save and leave with exit code 143 when asked to stop."""
        records = RecordWriter(self.ctx.attempt / "records.jsonl", self.stage)
        counters: dict[str, Any] = {"step": 0, "tokens": 0, "train": [], "val": []}
        state = TrainState(self.model, self.optimizer, self.loader, counters)
        self._resume(state, records)
        self.ctx.beat(counters["step"], slow=True)
        folder = self.ctx.attempt / "checkpoints"
        with (
            StopRequest(self.model.device) as stop,
            CheckpointWriter(folder, self.pace.keep_checkpoints) as writer,
        ):
            log = self._log_of(counters, records)
            while counters["step"] < self.pace.steps:
                writer.check()
                planned_fault(self.stage, counters["step"])
                step = counters["step"]
                if self._is_eval(step):
                    log.settle()
                    self._evaluate(state, records, writer)
                self._step(counters, log)
                self.ctx.beat(step + 1)
                # Before an evaluation the host waits anyway.
                stopped = stop.agreed(late=self._ahead_on_gpu and not self._is_eval(step + 1))
                if stopped or (step + 1) % self.pace.checkpoint_every == 0:
                    log.settle()
                    self._save(state, writer)
                if stopped:
                    writer.wait()
                    logger.info("stopped at step %d of %d; a checkpoint is saved", step + 1, self.pace.steps)
                    sys.exit(STOPPED_EXIT_CODE)
            log.settle()
            if self._is_eval(self.pace.steps):
                self._evaluate(state, records, writer)
        self._finish(records, counters)
        return Curve(self.val_metric, counters["train"], counters["val"], counters["tokens"])

    @property
    def _ahead_on_gpu(self) -> bool:
        return self.ahead and self.model.device.type == "cuda"

    def _is_eval(self, step: int) -> bool:
        return step == self.pace.steps or step % self.pace.eval_every == 0

    def _log_of(self, counters: dict[str, Any], records: RecordWriter) -> StepLog:
        device = self.model.device
        peak = peak_flops(torch.cuda.get_device_name(device)) if self._ahead_on_gpu else 0.0
        return StepLog(
            self.stage, self.pace.steps, self.pace.log_every, device, counters,
            records if self.ctx.is_main else None, ahead=self._ahead_on_gpu,
            flops_per_token=flops_per_token(self.model.config), peak_flops=peak * self.ctx.world_size,
        )  # fmt: skip

    def _step(self, counters: dict[str, Any], log: StepLog) -> None:
        step = counters["step"]
        multiplier = self.optimizer.set_progress(step, self.pace.steps)
        self.optimizer.zero_grad()
        result = self.compute_gradients(step)
        norm = self.optimizer.step(torch.as_tensor(result.loss))
        counters["step"], counters["tokens"] = step + 1, counters["tokens"] + result.tokens
        scale = self.optimizer.loss_scale
        log.add(result, norm, multiplier, scale and scale.value)

    def _evaluate(self, state: TrainState, records: RecordWriter, writer: CheckpointWriter) -> None:
        """Measure once per step, beside the write of a checkpoint: a kill after that write loses no step."""
        step, done = state.counters["step"], state.counters["val"]
        if done and done[-1][0] == step:
            return
        if step:
            self._save(state, writer)
        value = self.measure()
        done.append([step, value])
        if self.ctx.is_main:
            records.write(self.val_metric, value, step=step, tokens=state.counters["tokens"], split="val")
            logger.info("step %d/%d | %s %.4f", step, self.pace.steps, self.val_metric, value)

    def _save(self, state: TrainState, writer: CheckpointWriter) -> None:
        step, val = state.counters["step"], state.counters["val"]
        self.ctx.beat(step, slow=True)
        tensors, values = state.capture()
        if self.ctx.is_main:
            better = NAMES[self.val_metric].direction
            best = max(val, key=lambda entry: better * entry[1], default=None)
            values["best"] = best and {"step": best[0], self.val_metric: best[1]}
            writer.save(step, tensors, values, best and best[0])

    def _resume(self, state: TrainState, records: RecordWriter) -> None:
        newest = newest_checkpoint(self.ctx.attempt / "checkpoints", self.model.device)
        if newest is None:
            records_step = -1
        else:
            state.restore(*newest)
            records_step = state.counters["step"]
            logger.info("resuming at step %d of %d", records_step, self.pace.steps)
        if self.ctx.is_main:
            measured = [step for step, _ in state.counters["val"]]
            records.rewind(records_step, "" if records_step in measured else self.val_metric)
            records.write("stage/start", float(max(records_step, 0)), kind="event")

    def _finish(self, records: RecordWriter, counters: dict[str, Any]) -> None:
        if self.ctx.is_main:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            records.write("memory/peak_bytes", peak, kind="event")
            records.write("stage/end", float(counters["step"]), kind="event")
