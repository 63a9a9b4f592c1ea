"""The loop: exact resume after a kill at any step, one evaluation a step, nothing applied from a bad loss."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import torch

from artifacts.errors import NanochatError, ResourceError
from nanochat.config.model import ModelConfig
from nanochat.config.optim import OptimConfig
from nanochat.data.loader import ConversationLoader
from nanochat.model.gpt import GPT
from nanochat.optim.build import build_optimizer
from nanochat.records import read_records
from nanochat.runtime import STOPPED_EXIT_CODE, StageContext
from nanochat.train import writer
from nanochat.train.checkpoint import load_checkpoint, save_checkpoint
from nanochat.train.gradients import accumulate
from nanochat.train.loop import Curve, Pace, Trainer
from nanochat.train.step_log import StepResult

SHAPE = ModelConfig(depth=2, width=32, num_heads=2, num_kv_heads=2, vocab_size=64, seq_len=16)
STEPS = 20


class Killed(BaseException):
    """Stands for SIGKILL: nothing may run after it."""


def context(folder: Path) -> StageContext:
    return StageContext({}, folder / "output", folder / "attempt", folder / "scratch")


def trainer(
    folder: Path, die_at: int = -1, bad_at: int = -1, bad: str = "loss", checkpoint_every: int = 3
) -> Trainer:
    torch.manual_seed(0)
    model = GPT(SHAPE)
    model.init_weights()
    generator = torch.Generator().manual_seed(1)
    rows = [(torch.randint(0, 64, (9,), generator=generator).tolist(), [0] * 3 + [1] * 6) for _ in range(30)]
    loader = ConversationLoader(rows, batch=2, seq_len=16, pad=0, seed=5)

    def gradients(step: int) -> StepResult:
        if step == die_at:
            raise Killed
        batches = [loader.next(), loader.next()]
        weight = float(sum(int((b.targets_BT >= 0).sum()) for b in batches))
        loss = accumulate(model, batches, weight, 1)
        torch.rand(1)  # a stage may use global randomness: it must survive too
        if step == bad_at and bad != "loss":
            list(model.parameters())[-1].grad[-1] = float(bad)
        return StepResult(float("nan") if step == bad_at and bad == "loss" else loss, 64)

    optimizer = build_optimizer(model, OptimConfig(lr_scale=0.2))
    pace = Pace(STEPS, eval_every=5, checkpoint_every=checkpoint_every, log_every=1)
    return Trainer(
        context(folder), "sft", model, optimizer, loader, pace, "val_loss", gradients,
        lambda: float(model.head.weight.double().square().sum()),
    )  # fmt: skip


def outcome(run: Trainer) -> tuple[Curve, dict[str, torch.Tensor], float]:
    curve = run.run()
    return curve, run.model.state_dict(), float(torch.rand(1))


@pytest.mark.criterion("T06")
@pytest.mark.parametrize("cut", [0, 2, 7, 12, 19])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, cut: int) -> None:
    expected, weights, random_after = outcome(trainer(tmp_path / "whole"))
    with pytest.raises(Killed):
        trainer(tmp_path / "cut", die_at=cut).run()
    curve, resumed, resumed_random = outcome(trainer(tmp_path / "cut"))
    assert curve == expected
    assert resumed_random == random_after
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def test_records_stay_unique_after_a_kill(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trainer(tmp_path, die_at=11).run()
    trainer(tmp_path).run()
    keys = [
        (r["name"], r["step"])
        for r in read_records(tmp_path / "attempt/records.jsonl")
        if r["step"] is not None
    ]
    assert len(keys) == len(set(keys))
    assert {step for name, step in keys if name == "train/loss"} == set(range(1, STEPS + 1))
    assert {step for name, step in keys if name == "val_loss"} == {0, 5, 10, 15, 20}


@pytest.mark.criterion("T15")
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("loss", "loss is nan"), ("nan", "gradient norm is nan"), ("inf", "gradient norm is inf"),
        ("-inf", "gradient norm is inf"),
    ],
)  # fmt: skip
def test_what_is_not_finite_stops_the_run_before_it_reaches_the_weights(
    tmp_path: Path, bad: str, said: str
) -> None:
    run = trainer(tmp_path, bad_at=6, bad=bad)
    good = trainer(tmp_path / "good", die_at=6)
    with pytest.raises(Killed):
        good.run()
    with pytest.raises(NanochatError, match=f"{said} at step 6, which left the weights unchanged") as caught:
        run.run()
    assert caught.value.exit_code == 1
    for mine, reference in zip(run.model.parameters(), good.model.parameters(), strict=True):
        assert torch.equal(mine, reference)


@pytest.mark.criterion("T10")
def test_a_stop_request_saves_and_leaves_with_its_own_code(tmp_path: Path) -> None:
    run = trainer(tmp_path, checkpoint_every=1000)
    inner = run.compute_gradients

    def interrupted(step: int) -> StepResult:
        if step == 8:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)
        return inner(step)

    run.compute_gradients = interrupted
    with pytest.raises(SystemExit) as caught:
        run.run()
    assert caught.value.code == STOPPED_EXIT_CODE
    state = json.loads((tmp_path / "attempt/checkpoints/step-00000009/state.json").read_text())
    assert state["counters"]["step"] == 9


@pytest.mark.criterion("T13")
def test_a_checkpoint_that_cannot_be_written_ends_the_run_one_step_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains, failed = threading.Event(), threading.Event()

    def fail(folder: Path, step: int, *what: object) -> Path:
        if step < 6:
            return save_checkpoint(folder, step, *what)
        assert trains.wait(30)
        failed.set()
        raise ResourceError(f"{folder}: no space left on the device", "free some space")

    monkeypatch.setattr(writer, "save_checkpoint", fail)
    run = trainer(tmp_path, checkpoint_every=3)
    inner, steps = run.compute_gradients, []

    def counted(step: int) -> StepResult:
        steps.append(step)
        if step == 6:  # the first one after the save that fails
            trains.set()
            assert failed.wait(30)
            time.sleep(0.1)
        return inner(step)

    run.compute_gradients = counted
    with pytest.raises(ResourceError, match="no space left"):
        run.run()
    assert steps[-1] == 6
    assert sorted(path.name for path in (tmp_path / "attempt/checkpoints").iterdir()) == [
        "step-00000003", "step-00000005",
    ]  # fmt: skip
    monkeypatch.undo()
    assert trainer(tmp_path).run() == trainer(tmp_path / "whole").run()


@pytest.mark.parametrize(("val_metric", "best"), [("val_loss", 10), ("eval/accuracy", 5)])
def test_the_best_checkpoint_is_kept_and_named_in_those_after_it(
    tmp_path: Path, val_metric: str, best: int
) -> None:
    run, values = trainer(tmp_path), iter([3.0, 2.0, 1.0, 1.5, 1.2])  # at steps 0, 5, 10, 15, 20
    if val_metric == "eval/accuracy":
        values = iter([0.1, 0.9, 0.2, 0.9, 0.3])
    run.val_metric, run.measure = val_metric, lambda: next(values)
    run.run()
    folder = tmp_path / "attempt/checkpoints"
    assert sorted(int(path.name[-2:]) for path in folder.iterdir()) == [best, 18, 20]
    state = load_checkpoint(folder / "step-00000020")[1]
    assert state["best"]["step"] == best
    assert state["best"][val_metric] == dict(state["counters"]["val"])[best]


def test_every_token_weighs_the_same_however_the_batch_is_cut(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    loader = run.loader
    batches = [loader.next() for _ in range(4)]
    total = float(sum(int((b.targets_BT >= 0).sum()) for b in batches))

    def gradient(parts: list) -> torch.Tensor:
        run.model.zero_grad()
        accumulate(run.model, parts, total, 1)
        return torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])

    whole = type(batches[0])(
        torch.cat([b.inputs_BT for b in batches]), torch.cat([b.targets_BT for b in batches]), 0, int(total)
    )
    assert torch.allclose(gradient(batches), gradient([whole]), atol=1e-6)


def test_it_beats_at_every_step_and_asks_for_patience_where_it_takes_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[tuple[int, bool]] = []
    monkeypatch.setattr(StageContext, "beat", lambda _, step, slow=False: beats.append((step, slow)))
    run = trainer(tmp_path, checkpoint_every=3)
    inner = run.measure
    run.measure = lambda: beats[-1][1] and inner()  # nobody may wait for a beat during an evaluation
    run.run()
    assert beats[0] == (0, True)
    assert [step for step, slow in beats if not slow] == list(range(1, STEPS + 1))
    assert {step for step, slow in beats if slow} == {0, 3, 5, 6, 9, 10, 12, 15, 18, 20}
