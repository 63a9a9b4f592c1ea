"""Keys and values of tokens already seen, one region a row, rows of different lengths.

A layer with a sliding window keeps its window and a few tokens more: position p is in slot p mod S, so a new
token takes the place of one that no later token can see. The few more are what ``truncate`` can take back.

Shapes: R rows of the cache, N rows of one call, T new tokens a row, P tokens before them, H key-value heads,
S slots of a layer, D head channels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nanochat.config.model import ModelConfig

SLACK_TOKENS = 64  # kept beyond a window
COMMON_TOKENS = 64  # a shorter common beginning of rows is not worth products of its own


class KVCache:
    """Room for ``rows`` sequences of up to ``max_tokens``; a call may touch any subset of the rows."""

    def __init__(
        self, config: ModelConfig, rows: int, max_tokens: int,
        dtype: torch.dtype, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self.max_tokens = max_tokens
        self.windows = [config.window(layer) for layer in range(config.depth)]
        self.slots = [min(max_tokens, window + SLACK_TOKENS) for window in self.windows]
        shapes = [(rows, config.num_kv_heads, slots, config.head_dim) for slots in self.slots]
        self.keys_RHSD = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        self.values_RHSD = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        # the smear gate needs the token before, whichever that is after a truncation
        self.tokens_RT = torch.zeros(rows, max_tokens, dtype=torch.int64, device=device)
        self._lengths = [0] * rows
        self._written = [0] * rows  # the length that a row had before it was truncated
        self._common: tuple[list[int], int] | None = None  # some rows, and what they begin with in common

    def length(self, row: int) -> int:
        """How many tokens the row holds."""
        return self._lengths[row]

    def reset(self, rows_N: Tensor) -> None:
        """Forget the given rows, so that new prompts can use them."""
        self._common = None
        for row in rows_N.tolist():
            self._lengths[row] = self._written[row] = 0

    def clear(self, row: int) -> None:
        """Forget a row and wipe what is stored: a NaN would outlive ``reset``, since even 0 * NaN is one."""
        for tensor in (*self.keys_RHSD, *self.values_RHSD, self.tokens_RT):
            tensor[row] = 0
        self._common = None
        self._lengths[row] = self._written[row] = 0

    def truncate(self, row: int, tokens: int) -> bool:
        """Keep only the first ``tokens`` of the row; False, nothing changed: a window has dropped some."""
        if not self._holds(row, tokens):
            return False
        self._common = None
        self._lengths[row] = tokens
        return True

    def copy(self, source: int, target: int, tokens: int) -> bool:
        """Make row ``target`` hold the first ``tokens`` of ``source``; False, nothing changed: likewise."""
        if not self._holds(source, tokens):
            return False
        written = self._written[source]
        for tensor in (*self.keys_RHSD, *self.values_RHSD):
            tensor[target, :, :written] = tensor[source, :, :written]
        self.tokens_RT[target, :tokens] = self.tokens_RT[source, :tokens]
        self._common = None
        self._lengths[target], self._written[target] = tokens, written
        return True

    def common(self, rows: list[int]) -> int:
        """How many tokens all of these rows begin with; longer rows have no fewer, so it is asked once."""
        if self._common is None or self._common[0] != rows:
            tokens_NT = self.tokens_RT[rows, : min(self._lengths[row] for row in rows)]
            equal_T = (tokens_NT == tokens_NT[0]).all(dim=0)
            self._common = rows, int(equal_T.cumprod(dim=0).sum())
        return self._common[1]

    def _holds(self, row: int, tokens: int) -> bool:
        """Whether the row still has all that a token after the first ``tokens`` can see."""
        assert 0 <= tokens <= self._lengths[row], (tokens, self._lengths[row])
        oldest = (self._written[row] - slots for slots in self.slots)
        return all(
            max(tokens - window, 0) >= first for window, first in zip(self.windows, oldest, strict=True)
        )

    def begin(self, tokens_NT: Tensor, rows_N: Tensor) -> Reading:
        """Start reading T more tokens in each of the rows, after those they hold; ``end`` ends it."""
        rows = rows_N.tolist()
        starts, length = [self._lengths[row] for row in rows], tokens_NT.size(1)
        assert max(starts) + length <= self.max_tokens, (starts, length, self.max_tokens)
        device = tokens_NT.device
        start_N = torch.tensor(starts, device=device)
        position_NT = start_N[:, None] + torch.arange(length, device=device)
        self.tokens_RT[rows_N[:, None], position_NT] = tokens_NT
        return Reading(self, rows, rows_N, starts, start_N, position_NT)

    def advance(self, rows: list[int], length: int) -> None:
        """The rows hold ``length`` more tokens now, in every layer."""
        for row in rows:
            self._lengths[row] += length
            self._written[row] = max(self._written[row], self._lengths[row])


@dataclass(frozen=True)
class Reading:
    """One call: the positions of its new tokens, and where each layer keeps them."""

    cache: KVCache
    rows: list[int]
    rows_N: Tensor
    starts: list[int]
    start_N: Tensor
    position_NT: Tensor
    masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # of layers with equal windows

    @functools.cached_property
    def neighbours(self) -> slice | None:
        """The rows as a slice, which needs no copy, where they lie side by side."""
        first, last = self.rows[0], self.rows[-1] + 1
        return slice(first, last) if self.rows == list(range(first, last)) else None

    @functools.cached_property
    def aligned(self) -> bool:
        """Whether all rows hold the same number of tokens."""
        return min(self.starts) == max(self.starts)

    @functools.cached_property
    def common(self) -> int:
        """How many tokens all rows begin with, if that is worth knowing; else 0."""
        common = self.cache.common(self.rows) if len(self.rows) > 1 else 0
        return common if common >= COMMON_TOKENS else 0

    def previous_tokens_N(self) -> Tensor:
        """The token before the new ones; of rows that were empty, any."""
        return self.cache.tokens_RT[self.rows_N, self.start_N - 1]

    def layer(self, layer: int) -> LayerCache:
        """The view that attention of ``layer`` uses during this call."""
        return LayerCache(self, layer)

    def end(self) -> None:
        """All layers have stored the new tokens."""
        self.cache.advance(self.rows, self.position_NT.size(1))


@dataclass(frozen=True)
class LayerCache:
    """One layer's keys and values for the rows of one call."""

    reading: Reading
    layer: int

    def common(self) -> tuple[Tensor, Tensor] | None:
        """Keys and values (H, P, D) of the P tokens that all rows begin with and their next token sees."""
        cache, reading = self.reading.cache, self.reading
        keys, values = cache.keys_RHSD[self.layer], cache.values_RHSD[self.layer]
        if not reading.common or max(reading.starts) > min(cache.windows[self.layer], keys.size(2) - 1):
            return None
        row, common = reading.rows[0], reading.common
        return keys[row, :, :common], values[row, :, :common]

    def append(
        self, k_NHTD: Tensor, v_NHTD: Tensor, *, after: int = 0
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store T new tokens a row; return the keys and values that they may see, new ones included.

        And the visibility mask (N, 1, T, keys), or None where it is the causal one. A single new token sees
        all keys then; of those ``after`` leaves out the first, which must be ``common``.
        """
        cache, length = self.reading.cache, k_NHTD.size(2)
        keys, values = cache.keys_RHSD[self.layer], cache.values_RHSD[self.layer]
        if length == 1:
            self._store(keys, k_NHTD)
            self._store(values, v_NHTD)
            used = min(max(self.reading.starts) + 1, keys.size(2))
            mask = self._one_token_mask(used)
            mask = mask if mask is None else mask[..., after:]
            return self._used(keys, after, used), self._used(values, after, used), mask
        # the new tokens may take the slots of what the first of them still sees
        before = min(max(self.reading.starts), cache.windows[self.layer])
        k, v = self._before(keys, before, k_NHTD), self._before(values, before, v_NHTD)
        self._store(keys, k_NHTD)
        self._store(values, v_NHTD)
        return k, v, self._mask(before, length)

    def _store(self, kept_RHSD: Tensor, new_NHTD: Tensor) -> None:
        reading, slots = self.reading, kept_RHSD.size(2)
        if new_NHTD.size(2) == 1 and reading.neighbours and reading.aligned:
            kept_RHSD[reading.neighbours, :, reading.starts[0] % slots] = new_NHTD[:, :, 0]
            return
        slot_NT = reading.position_NT[:, -slots:] % slots
        kept_RHSD[reading.rows_N[:, None], :, slot_NT] = new_NHTD[:, :, -slots:].transpose(1, 2)

    def _used(self, kept_RHSD: Tensor, after: int, used: int) -> Tensor:
        rows = self.reading.neighbours
        return kept_RHSD[rows if rows else self.reading.rows_N, :, after:used]

    def _before(self, kept_RHSD: Tensor, before: int, new_NHTD: Tensor) -> Tensor:
        """The new tokens behind the ``before`` ones before them."""
        if not before:
            return new_NHTD
        back_P = torch.arange(-before, 0, device=new_NHTD.device)
        slot_NP = (self.reading.start_N[:, None] + back_P) % kept_RHSD.size(2)
        kept_NPHD = kept_RHSD[self.reading.rows_N[:, None], :, slot_NP]
        return torch.cat((kept_NPHD.transpose(1, 2), new_NHTD), dim=2)

    def _one_token_mask(self, used: int) -> Tensor | None:
        """Which of the ``used`` slots the new token sees; None for all of them."""
        cache, reading = self.reading.cache, self.reading
        slots, window = cache.slots[self.layer], cache.windows[self.layer]
        if reading.aligned and used <= window + 1 and reading.starts[0] < slots:
            return None
        if (slots, window) not in reading.masks:
            back_NS = (reading.start_N[:, None] - torch.arange(used, device=reading.start_N.device)) % slots
            mask_NS = back_NS <= reading.start_N[:, None].clamp(max=window)
            reading.masks[slots, window] = mask_NS[:, None, None]
        return reading.masks[slots, window]

    def _mask(self, before: int, length: int) -> Tensor | None:
        window, device = self.reading.cache.windows[self.layer], self.reading.start_N.device
        if not before and length <= window:
            return None
        key = torch.arange(before + length, device=device)
        back_TK = torch.arange(before, before + length, device=device)[:, None] - key
        seen_TK = (back_TK >= 0) & (back_TK <= window)
        if not before:
            return seen_TK
        return (seen_TK & (key >= before - self.reading.start_N[:, None])[:, None])[:, None]
