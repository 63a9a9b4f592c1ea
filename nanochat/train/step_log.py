"""What a training step says of itself: checked for NaN, kept for the curve, recorded, logged.

On a GPU the numbers of a step are read while the next one runs, so that the device never waits for the host.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from artifacts.errors import NanochatError
from nanochat.optim.loss_scale import LEAST
from nanochat.records import RecordWriter
from nanochat.train.reading import Reading

logger = logging.getLogger(__name__)

Measurement = dict[str, float]
CURVE_POINTS = 200  # training losses kept in the payload


@dataclass(frozen=True)
class StepResult:
    """What one step reports: the loss in nats, tokens it consumed over all ranks, extra records."""

    loss: float | Tensor
    tokens: int
    records: Measurement = field(default_factory=dict)


@dataclass(frozen=True)
class _Step:
    number: int
    tokens: int
    numbers: Reading
    records: Measurement


class StepLog:
    """The numbers of one run's steps. ``records`` is None on all ranks but the main one.

    ``counters`` is the loop's own: the losses of some steps are added to its list ``train``. ``ahead``: a
    step is read while the next one runs.
    ``flops_per_token`` and ``peak_flops``, of all ranks together, give the model FLOPs utilisation (MFU;
    Chowdhery et al., 2022); a peak of 0 is one that nobody knows.
    """

    def __init__(
        self, stage: str, steps: int, every: int, device: torch.device, counters: dict[str, Any],
        records: RecordWriter | None, *,
        ahead: bool = False, flops_per_token: float = 0.0, peak_flops: float = 0.0,
    ) -> None:  # fmt: skip
        self._stage, self._steps, self._every, self._device = stage, steps, every, device
        self._ahead = ahead
        self._counters, self._records = counters, records
        self._flops_per_token, self._peak_flops = flops_per_token, peak_flops
        self._waiting: _Step | None = None
        self._start, self._tokens = time.perf_counter(), 0

    def add(self, result: StepResult, norm: Tensor, multiplier: float, loss_scale: Tensor | None) -> None:
        """Take the numbers of the step that ``counters`` ends with; NanochatError as ``settle``.

        ``loss_scale``: that of the next step; with one, a norm that is not finite is a step skipped.
        """
        scale = [loss_scale.clone()] if loss_scale is not None else []
        numbers = Reading([result.loss, norm, *scale], self._device)
        records = {"train/lr": multiplier, **result.records}
        self.settle()
        self._waiting = _Step(self._counters["step"], self._counters["tokens"], numbers, records)
        self._tokens += result.tokens
        if not self._ahead:
            self.settle()

    def settle(self) -> None:
        """Read what is on its way. NanochatError if a loss or a norm is not finite."""
        if self._waiting is None:
            return
        step, self._waiting = self._waiting, None
        loss, norm, *scale = step.numbers.get()
        self._require_finite("loss", loss, step.number)
        if not scale or scale[0] < LEAST:
            self._require_finite("gradient norm", norm, step.number)
        if not math.isfinite(norm):
            self._counters["skipped"] = self._counters.get("skipped", 0) + 1
        if (step.number - 1) % max(1, self._steps // CURVE_POINTS) == 0:
            self._counters["train"].append([step.number - 1, loss])
        if step.number % self._every == 0:
            if self._records:
                self._write(self._records, step, loss, norm)
            self._start, self._tokens = time.perf_counter(), 0

    def _require_finite(self, what: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise NanochatError(
                f"{self._stage}: {what} is {value} at step {step - 1}, which left the weights unchanged",
                "lower the learning rate (--set STAGE.optim.lr_scale=0.5) and run again",
            )

    def _write(self, records: RecordWriter, step: _Step, loss: float, norm: float) -> None:
        rate = self._tokens / (time.perf_counter() - self._start)
        values = {"train/loss": loss, "train/tokens_per_second": rate, **step.records}
        values["stage/progress"] = step.number / self._steps
        if math.isfinite(norm):
            values["train/grad_norm"] = norm
        if "skipped" in self._counters:
            values["train/skipped_steps"] = self._counters["skipped"]
        said = f"step {step.number}/{self._steps} | loss {loss:.4f} | {rate:.0f} tok/s"
        if self._peak_flops:
            values["train/mfu"] = rate * self._flops_per_token / self._peak_flops
            said += f" | MFU {values['train/mfu']:.1%}"
        for name, value in values.items():
            records.write(name, value, step=step.number, tokens=step.tokens)
        logger.info(said)
