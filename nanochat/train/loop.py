"""The training loop that every stage shares: steps, records, checkpoints, validation, stopping.

A stage brings a model, an optimizer, a loader and two functions: the gradient step's batches and what
to measure. The loop brings what must never differ between stages: a checkpoint before each evaluation,
on SIGTERM and every ``checkpoint_every`` steps; exact resume; no step from a loss or gradient that is not finite.
"""

from __future__ import annotations

import json
import logging
import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from artifacts.errors import NanochatError
from nanochat.faults import planned_fault
from nanochat.model.gpt import GPT
from nanochat.optim.build import MuonAdamW
from nanochat.records import RecordWriter
from nanochat.runtime import STOPPED_EXIT_CODE, StageContext
from nanochat.train.checkpoint import save_checkpoint
from nanochat.train.resume import newest_checkpoint
from nanochat.train.setup import StopRequest
from nanochat.train.state import TrainState

logger = logging.getLogger(__name__)

Measurement = dict[str, float]
CURVE_POINTS = 200  # training losses kept in the payload


class Loader(Protocol):
    """A source of batches with an exact position."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> object: ...


@dataclass(frozen=True)
class StepResult:
    """What one step reports: the loss in nats, tokens it consumed over all ranks, extra records."""

    loss: float
    tokens: int
    records: Measurement = field(default_factory=dict)


@dataclass(frozen=True)
class Pace:
    """How long, and how often to look. ``checkpoint_every`` and ``log_every`` never change the result."""

    steps: int
    eval_every: int
    checkpoint_every: int
    log_every: int


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

    def run(self) -> Curve:
        """Train to the last step, or save and leave with exit code 143 when asked to stop."""
        records = RecordWriter(self.ctx.attempt / "records.jsonl", self.stage)
        counters: dict[str, Any] = {"step": 0, "tokens": 0, "train": [], "val": []}
        state = TrainState(self.model, self.optimizer, self.loader, counters)
        self._resume(state, records)
        self.ctx.beat(counters["step"], slow=True)
        with StopRequest(self.model.device) as stop:
            window_start, window_tokens = time.perf_counter(), 0
            while counters["step"] < self.pace.steps:
                planned_fault(self.stage, counters["step"])
                step = counters["step"]
                if self._is_eval(step):
                    self._evaluate(state, records)
                result = self._step(step)
                counters["step"], counters["tokens"] = step + 1, counters["tokens"] + result.tokens
                self.ctx.beat(step + 1)
                if step % max(1, self.pace.steps // CURVE_POINTS) == 0:
                    counters["train"].append([step, result.loss])
                window_tokens += result.tokens
                if self.ctx.is_main and (step + 1) % self.pace.log_every == 0:
                    elapsed = time.perf_counter() - window_start
                    self._log(records, counters, result, window_tokens / elapsed)
                    window_start, window_tokens = time.perf_counter(), 0
                if stop.agreed():
                    self._save(state)
                    logger.info("stopped at step %d of %d; a checkpoint is saved", step + 1, self.pace.steps)
                    sys.exit(STOPPED_EXIT_CODE)
                if (step + 1) % self.pace.checkpoint_every == 0:
                    self._save(state)
            if self._is_eval(self.pace.steps):
                self._evaluate(state, records)
        self._finish(records, counters)
        return Curve(self.val_metric, counters["train"], counters["val"], counters["tokens"])

    def _is_eval(self, step: int) -> bool:
        return step == self.pace.steps or step % self.pace.eval_every == 0

    def _step(self, step: int) -> StepResult:
        multiplier = self.optimizer.set_progress(step, self.pace.steps)
        self.optimizer.zero_grad()
        result = self.compute_gradients(step)
        self._require_finite("loss", result.loss, step)
        norm = self.optimizer.step()
        self._require_finite("gradient norm", norm, step)
        records = {"train/lr": multiplier, "train/grad_norm": norm, **result.records}
        return StepResult(result.loss, result.tokens, records)

    def _require_finite(self, what: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise NanochatError(
                f"{self.stage}: {what} is {value} at step {step}; weights are unchanged",
                "lower the learning rate (--set STAGE.optim.lr_scale=0.5) and run again",
            )

    def _evaluate(self, state: TrainState, records: RecordWriter) -> None:
        """Measure once per step, after a checkpoint: a kill during a long evaluation loses nothing."""
        step, done = state.counters["step"], state.counters["val"]
        if done and done[-1][0] == step:
            return
        if step:
            self._save(state)
        value = self.measure()
        done.append([step, value])
        if self.ctx.is_main:
            records.write(self.val_metric, value, step=step, tokens=state.counters["tokens"], split="val")
            logger.info("step %d/%d | %s %.4f", step, self.pace.steps, self.val_metric, value)

    def _log(self, records: RecordWriter, counters: dict[str, Any], result: StepResult, rate: float) -> None:
        step, total = counters["step"], self.pace.steps
        where: dict[str, Any] = {"step": step, "tokens": counters["tokens"]}
        records.write("train/loss", result.loss, **where)
        records.write("train/tokens_per_second", rate, **where)
        records.write("stage/progress", step / total, **where)
        for name, value in result.records.items():
            records.write(name, value, **where)
        logger.info("step %d/%d | loss %.4f | %.0f tok/s", step, total, result.loss, rate)

    def _save(self, state: TrainState) -> None:
        self.ctx.beat(state.counters["step"], slow=True)
        tensors, values = state.capture()
        if self.ctx.is_main:
            save_checkpoint(self.ctx.attempt / "checkpoints", state.counters["step"], tensors, values)

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


def accumulate(model: GPT, batches: list[Any], total_weight: float, world_size: int) -> float:
    """Gradients of the mean loss over all supervised tokens of a global batch; returns this rank's share.

    ``total_weight`` counts supervised targets over all micro-batches and ranks, so every token weighs
    the same however the batch is cut. Gradients are scaled up by ``world_size``: they get averaged later.
    """
    loss_sum = 0.0
    for batch in batches:
        targets = batch.targets_BT.to(model.device)
        weights = (targets >= 0).float() * (world_size / total_weight)
        loss = model.loss(batch.inputs_BT.to(model.device), targets, weights)
        loss.backward()
        loss_sum += float(loss.detach()) / world_size
    return loss_sum
