"""The newest checkpoint on every rank: rank 0 reads it and sends it to the others, which may be far away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nanochat.train.checkpoint import load_checkpoint
from nanochat.train.published import latest_checkpoint
from nanochat.train.state import Tensors

Checkpoint = tuple[Tensors, dict[str, Any]]


def newest_checkpoint(folder: Path, device: torch.device) -> Checkpoint | None:
    """Tensors (on the CPU) and state of rank 0's newest valid checkpoint; None if it never had one.

    A collective call when there are several ranks. DataError, on rank 0, as ``latest_checkpoint``.
    """
    if not dist.is_initialized():
        return _read(folder)
    if dist.get_rank() == 0:
        return _send(_read(folder), device)
    return _receive(device)


def _read(folder: Path) -> Checkpoint | None:
    newest = latest_checkpoint(folder)
    return None if newest is None else load_checkpoint(newest)


def _send(checkpoint: Checkpoint | None, device: torch.device) -> Checkpoint | None:
    tensors, state = checkpoint or ({}, None)
    shapes = [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in tensors.items()]
    header = bytearray(json.dumps({"state": state, "tensors": shapes}).encode())
    _broadcast(torch.tensor([len(header)]), device)
    _broadcast(torch.frombuffer(header, dtype=torch.uint8), device)
    for tensor in tensors.values():
        _broadcast(tensor, device)
    return checkpoint


def _receive(device: torch.device) -> Checkpoint | None:
    length = _broadcast(torch.zeros(1, dtype=torch.int64), device)
    header = _broadcast(torch.zeros(int(length), dtype=torch.uint8), device)
    said = json.loads(header.numpy().tobytes())
    tensors = {
        name: _broadcast(torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch."))), device)
        for name, dtype, shape in said["tensors"]
    }
    return None if said["state"] is None else (tensors, said["state"])


def _broadcast(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``tensor`` of rank 0 on every rank, whatever its type: as bytes, and by way of ``device``."""
    content = tensor.contiguous().reshape(-1).view(torch.uint8).to(device)
    if content.numel():
        dist.broadcast(content, src=0)
    return content.cpu().view(tensor.dtype).reshape(tensor.shape)
