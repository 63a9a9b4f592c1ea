"""The rows of a cache: which tokens each still holds, and which one a new prompt takes.

A row keeps what it holds until it is needed for another prompt. One that begins alike, such as the next turn
of a conversation or a prompt with the same system message, then need not be read from its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nanochat.model.kv_cache import KVCache

LEAST_PREFIX = 8  # tokens that are worth keeping or copying


class Slots:
    """``count`` rows of ``cache``; ``tokens[slot]`` is what the row has read, in order."""

    def __init__(self, cache: KVCache, count: int, device: torch.device) -> None:
        self.cache, self.count, self._device = cache, count, device
        self.tokens: list[list[int]] = [[] for _ in range(count)]
        self.free: dict[int, None] = dict.fromkeys(range(count))  # the longest unused first

    def take(self, prompt: Sequence[int]) -> tuple[int, int]:
        """A free slot and how many tokens of ``prompt`` it holds already: all but the last one at most.

        The longest common beginning with what any slot holds is kept or copied. A slot that ``prompt``
        continues is taken itself; otherwise the one that was unused for longest, so that the rest stays.
        """
        common = [_common(tokens, prompt[:-1]) for tokens in self.tokens]
        for source in sorted(range(self.count), key=lambda slot: -common[slot]):
            length = common[source]
            if length < LEAST_PREFIX:
                break
            itself = source in self.free and 2 * length >= len(self.tokens[source])
            target = source if itself else self._least_needed()
            if target == source:
                kept = self.cache.truncate(source, length)
            else:
                kept = self.cache.copy(source, target, length)
            if kept:
                return self._taken(target, list(prompt[:length]))
        target = self._least_needed()
        self.cache.reset(torch.tensor([target], dtype=torch.int64, device=self._device))
        return self._taken(target, [])

    def release(self, slot: int, forget: bool = False) -> None:
        """``slot`` is free again; with ``forget``, what it holds is not to be trusted, and is wiped."""
        assert slot not in self.free
        self.free[slot] = None
        if forget:
            self.tokens[slot] = []
            self.cache.clear(slot)

    def _least_needed(self) -> int:
        return next((slot for slot in self.free if not self.tokens[slot]), next(iter(self.free)))

    def _taken(self, slot: int, held: list[int]) -> tuple[int, int]:
        del self.free[slot]
        self.tokens[slot] = held
        return slot, len(held)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = zip(first, second, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
