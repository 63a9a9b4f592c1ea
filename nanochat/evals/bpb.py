"""Bits per byte: a model and token documents in, one number that does not depend on the tokenizer out.

bpb = sum of nats over target tokens that stand for at least one byte / (ln 2 x sum of their bytes).
Every document is cut into windows of the context length, each read on its own after a bos token, so
every token is predicted exactly once. The first tokens of a window lack what came before: the number is
a little above that of a sliding window, and the same for every batch size.

Shapes: B windows, T positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nanochat.model.gpt import GPT

IGNORED = -1
BATCH_TOKENS = 4096


@dataclass(frozen=True)
class BitsPerByte:
    """``value`` and what it was measured on."""

    value: float
    tokens: int
    bytes: int
    documents: int


@torch.no_grad()
def bits_per_byte(
    model: GPT,
    documents: Iterable[np.ndarray],
    *,
    bos: int,
    token_bytes: np.ndarray,
    seq_len: int,
    batch_tokens: int = BATCH_TOKENS,
) -> BitsPerByte:
    """Measure ``model`` on token ``documents`` (without bos). ``token_bytes``: UTF-8 bytes of each id."""
    texts = [np.asarray(document, dtype=np.int64) for document in documents]
    windows = sorted((window for text in texts for window in _windows(text, seq_len)), key=len)
    bytes_of_id = torch.as_tensor(np.asarray(token_bytes, dtype=np.int64))
    nats, num_tokens, num_bytes = 0.0, 0, 0
    for batch in _batches(windows, batch_tokens):
        inputs_BT, targets_BT = _stack(batch, bos)
        sizes_BT = torch.where(targets_BT == IGNORED, 0, bytes_of_id[targets_BT.clamp_min(0)])
        counted_BT = sizes_BT > 0
        nll_BT = model.token_nll(inputs_BT.to(model.device), targets_BT.to(model.device)).cpu()
        nats += float(nll_BT[counted_BT].sum(dtype=torch.float64))
        num_tokens += int(counted_BT.sum())
        num_bytes += int(sizes_BT.sum())
    value = nats / (math.log(2) * num_bytes) if num_bytes else math.nan
    return BitsPerByte(value, num_tokens, num_bytes, len(texts))


def _windows(tokens: np.ndarray, seq_len: int) -> Iterator[np.ndarray]:
    for start in range(0, len(tokens), seq_len):
        yield tokens[start : start + seq_len]


def _batches(windows: Sequence[np.ndarray], batch_tokens: int) -> Iterator[Sequence[np.ndarray]]:
    """Neighbours of nearly equal length, at most ``batch_tokens`` positions with padding (at least one)."""
    start = 0
    while start < len(windows):
        end = start + 1
        while end < len(windows) and (end + 1 - start) * len(windows[end]) <= batch_tokens:
            end += 1
        yield windows[start:end]
        start = end


def _stack(windows: Sequence[np.ndarray], bos: int) -> tuple[Tensor, Tensor]:
    """inputs (bos first) and targets of windows sorted by length; the short ones padded."""
    shape = len(windows), len(windows[-1])
    inputs_BT = torch.full(shape, bos)
    targets_BT = torch.full(shape, IGNORED)
    for row, window in enumerate(windows):
        tokens = torch.from_numpy(window)
        inputs_BT[row, 1 : len(tokens)] = tokens[:-1]
        targets_BT[row, : len(tokens)] = tokens
    return inputs_BT, targets_BT
