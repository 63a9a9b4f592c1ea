"""Only rank 0 has the checkpoint; every rank gets the same bytes."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from artifacts.errors import DataError
from nanochat.train.checkpoint import TENSORS, save_checkpoint
from nanochat.train.resume import newest_checkpoint

CPU = torch.device("cpu")
TENSORS_BY_NAME = {
    "model.weight": torch.linspace(-1, 1, 12).reshape(3, 4).T,
    "model.half": torch.tensor([1.5, -0.0, float("inf")], dtype=torch.bfloat16),
    "optimizer.step": torch.tensor(7.0),
    "loader.mask": torch.tensor([[True], [False]]),
    "loader.ids": torch.tensor([2**40, -1]),
    "empty": torch.zeros(0, 5),
}
STATE = {"counters": {"step": 7, "train": [[0, 0.1 + 0.2]]}, "random": ["a", "b"]}


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch):
    """``as_rank(0)``: what follows runs as that rank; what rank 0 sends, the other one receives."""
    sent: deque[torch.Tensor] = deque()
    rank = 0

    def broadcast(tensor: torch.Tensor, src: int) -> None:
        assert src == 0
        if rank == 0:
            sent.append(tensor.clone())
        else:
            tensor.copy_(sent.popleft())

    def become(number: int) -> None:
        nonlocal rank
        rank = number

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    monkeypatch.setattr(dist, "broadcast", broadcast)
    yield become
    assert not sent


def test_a_rank_without_a_disk_gets_what_rank_0_has(tmp_path: Path, as_rank) -> None:
    save_checkpoint(tmp_path / "here", 7, TENSORS_BY_NAME, STATE)
    mine = newest_checkpoint(tmp_path / "here", CPU)
    as_rank(1)
    theirs = newest_checkpoint(tmp_path / "elsewhere", CPU)
    assert mine is not None
    assert theirs is not None
    assert mine[1] == theirs[1] == STATE
    assert mine[0].keys() == theirs[0].keys() == TENSORS_BY_NAME.keys()
    for name, tensor in TENSORS_BY_NAME.items():
        assert theirs[0][name].dtype == tensor.dtype
        assert torch.equal(theirs[0][name], tensor)
        assert torch.equal(mine[0][name], tensor)


def test_if_rank_0_has_none_nobody_has(tmp_path: Path, as_rank) -> None:
    save_checkpoint(tmp_path / "elsewhere", 7, TENSORS_BY_NAME, STATE)
    assert newest_checkpoint(tmp_path / "here", CPU) is None
    as_rank(1)
    assert newest_checkpoint(tmp_path / "elsewhere", CPU) is None


def test_an_only_rank_reads_its_own(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path, CPU) is None
    save_checkpoint(tmp_path, 7, TENSORS_BY_NAME, STATE)
    checkpoint = newest_checkpoint(tmp_path, CPU)
    assert checkpoint is not None
    assert checkpoint[1] == STATE


def test_a_damaged_one_is_refused_before_anything_is_sent(tmp_path: Path, as_rank) -> None:
    path = save_checkpoint(tmp_path, 7, TENSORS_BY_NAME, STATE)
    (path / TENSORS).write_bytes(b"")
    with pytest.raises(DataError, match="none of its 1 checkpoints is valid"):
        newest_checkpoint(tmp_path, CPU)
