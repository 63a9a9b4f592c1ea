"""A checkpoint written beside training is the one that training would have waited for; its errors arrive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts.errors import ResourceError
from nanochat.train import writer as module
from nanochat.train.checkpoint import save_checkpoint
from nanochat.train.published import MANIFEST, latest_checkpoint, newest_step
from nanochat.train.writer import CheckpointWriter

GB = 1 << 30


def tensors(step: float = 1.0) -> dict[str, torch.Tensor]:
    weights = torch.arange(12.0).reshape(3, 4) * step
    return {
        "weight": torch.nn.Parameter(weights.clone()),
        "transposed": weights.T,
        "half": weights.to(torch.bfloat16),
        "step": torch.tensor(float(step)),
        "shared": weights[0],
        "empty": torch.zeros(0, 5),
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Gate:
    """Stands for ``save_checkpoint``: writes when it is told to, or fails."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.opened, self.error = threading.Event(), error
        self.threads: list[threading.Thread] = []

    def __call__(self, *arguments: Any) -> Path:
        self.threads.append(threading.current_thread())
        assert self.opened.wait(30)
        if self.error is not None:
            raise self.error
        return save_checkpoint(*arguments)


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Gate]:
    """``gated(error)``: from here on writes go through a gate, which is closed."""

    def use(error: BaseException | None = None) -> Gate:
        gate = Gate(error)
        monkeypatch.setattr(module, "save_checkpoint", gate)
        return gate

    return use


def test_its_files_are_those_of_a_save_that_waits_whatever_changes_meanwhile(tmp_path: Path, gated) -> None:
    state: dict[str, Any] = {"counters": {"train": [[0, 0.1 + 0.2]]}}
    for step in (1, 2):
        save_checkpoint(tmp_path / "waits", step, tensors(step), state)
    gate = gated()
    with CheckpointWriter(tmp_path / "beside") as writer:
        for step in (1, 2):
            gate.opened.clear()
            live, moving = tensors(step), {"counters": {"train": [[0, 0.1 + 0.2]]}}
            writer.save(step, live, moving)
            for tensor in live.values():
                tensor.detach().fill_(-1)
            moving["counters"]["train"].append([1, 9.0])
            assert newest_step(tmp_path / "beside") == (step - 1 or -1), "training goes on before the write"
            gate.opened.set()
            writer.wait()
    assert contents(tmp_path / "beside") == contents(tmp_path / "waits")


def test_the_next_save_waits_for_the_one_before_and_takes_its_memory(tmp_path: Path, gated) -> None:
    gate = gated()
    with CheckpointWriter(tmp_path) as writer:
        writer.save(1, tensors(1), {})
        writer.save(1, tensors(1), {})  # before an evaluation, say: it is under way
        first = dict(writer._buffers)
        second = threading.Thread(target=writer.save, args=(2, tensors(2), {}))
        second.start()
        second.join(0.2)
        assert second.is_alive()
        assert len(gate.threads) == 1
        gate.opened.set()
        second.join()
        writer.wait()
        assert len(gate.threads) == 2
        assert all(writer._buffers[name] is buffer for name, buffer in first.items())
    assert newest_step(tmp_path) == 2


@pytest.mark.criterion("T13")
def test_a_failed_write_arrives_as_the_same_error_and_costs_nothing(tmp_path: Path, gated) -> None:
    save_checkpoint(tmp_path, 1, tensors(1), {})
    before = contents(tmp_path)
    failure = ResourceError("no space left on the device", "free some space")
    gate = gated(failure)
    gate.opened.set()
    uses: list[Callable[[CheckpointWriter], None]] = [
        CheckpointWriter.wait,
        lambda writer: writer.save(3, tensors(3), {}),
        lambda writer: writer.save(2, tensors(2), {}),  # the same step again
        lambda writer: writer.__exit__(None, None, None),
    ]
    for use in uses:
        writer = CheckpointWriter(tmp_path)
        writer.save(2, tensors(2), {})
        with pytest.raises(ResourceError) as caught:
            use(writer)
        assert caught.value is failure
        writer.wait()  # it is said once
    writer = CheckpointWriter(tmp_path)
    writer.save(2, tensors(2), {})
    gate.threads[-1].join()
    with pytest.raises(ResourceError):
        writer.check()
    assert contents(tmp_path) == before
    gate.error = None
    writer.save(2, tensors(2), {})  # the fault is gone
    writer.wait()
    assert (tmp_path / "step-00000002" / MANIFEST).exists()


def test_without_room_for_a_copy_training_waits_which_is_said_once(
    tmp_path: Path, gated, caplog: pytest.LogCaptureFixture
) -> None:
    gate = gated()
    gate.opened.set()
    size = sum(tensor.nbytes for tensor in tensors().values())
    free = [2 * size - 1, 2 * size - 1, 2 * size, 0]
    writer = CheckpointWriter(tmp_path, free_bytes=lambda: free.pop(0))
    with caplog.at_level(logging.WARNING):
        for step in (1, 2):
            writer.save(step, tensors(step), {})
            assert newest_step(tmp_path) == step
    assert [record.message for record in caplog.records] == [
        "training waits for checkpoints: no memory for a copy of 0 MB"
    ]
    assert set(gate.threads) == {threading.current_thread()}
    for step in (3, 4):  # now there is room, and then the memory is there already
        writer.save(step, tensors(step), {})
    writer.wait()
    assert threading.current_thread() not in gate.threads[2:]
    assert free == [0]


def test_its_end_waits_for_the_write_unless_somebody_wants_out(
    tmp_path: Path, gated, caplog: pytest.LogCaptureFixture
) -> None:
    gate = gated()
    with pytest.raises(KeyboardInterrupt), CheckpointWriter(tmp_path / "out") as writer:  # noqa: PT012
        writer.save(1, tensors(), {})
        raise KeyboardInterrupt
    assert gate.threads[0].is_alive()
    gate.opened.set()
    with pytest.raises(ZeroDivisionError), CheckpointWriter(tmp_path / "bug") as writer:  # noqa: PT012
        writer.save(1, tensors(), {})
        raise ZeroDivisionError
    assert newest_step(tmp_path / "bug") == 1
    gate.error = ResourceError("no space left on the device")
    with pytest.raises(ZeroDivisionError), CheckpointWriter(tmp_path / "both") as writer:  # noqa: PT012
        writer.save(1, tensors(), {})
        raise ZeroDivisionError
    assert "was not written: no space left" in caplog.text
    assert latest_checkpoint(tmp_path / "both") is None


def test_the_best_stays_besides_the_newest(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path, keep=3) as writer:
        for step in range(1, 9):
            writer.save(step, tensors(step), {}, best=2 if step > 2 else None)
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["2", "6", "7", "8"]
