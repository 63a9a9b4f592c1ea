"""Batched generation with tools: prompts (token ids) in, completed assistant turns out.

Prompts may differ in length and content. Those of equal length are read together; then all unfinished
rows advance in lock-step, one token each, and finished rows leave. A row depends on its own prompt and
seed alone, not on its neighbours.

Shapes: N unfinished rows, T prompt tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from random import Random
from typing import Literal, Protocol

import torch
from torch import Tensor

from nanochat.config.model import ModelConfig
from nanochat.engine.calculator import calculate
from nanochat.engine.sampling import GREEDY, Sampling, choose, penalise
from nanochat.engine.turn import Calculator, Kind, PartReader, ToolCall, Turn, room_after, split_parts
from nanochat.model.kv_cache import KVCache
from nanochat.tokenizer.tokenizer import Tokenizer

BATCH_ROWS = 128


class Decoder(Protocol):
    """What generation needs of a model (``nanochat.model.gpt.GPT``)."""

    config: ModelConfig

    @property
    def device(self) -> torch.device: ...
    def new_cache(self, rows: int, max_tokens: int) -> KVCache: ...
    def prefill(self, tokens_NT: Tensor, cache: KVCache, rows_N: Tensor) -> Tensor: ...
    def decode(self, tokens_N: Tensor, cache: KVCache, rows_N: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Completion:
    """One finished turn: ``ids`` include a sampled end token; ``mask`` is 0 for forced tool output."""

    ids: list[int]
    mask: list[int]
    ended: bool
    tool_calls: list[ToolCall] = field(default_factory=list)
    parts: list[tuple[Kind, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What the turn says to the reader, without tool calls and their output."""
        return "".join(text for kind, text in self.parts if kind == "text")


@dataclass(frozen=True)
class Piece:
    """A bit of a streamed answer: complete characters of one kind (``notice``: from us, not the model)."""

    kind: Kind | Literal["notice"]
    text: str


class Engine:
    """Generates turns of one model; holds no state between calls."""

    def __init__(self, model: Decoder, tokenizer: Tokenizer, calculator: Calculator = calculate) -> None:
        self.model, self.tokenizer, self._calculator = model, tokenizer, calculator
        self.context_tokens = model.config.seq_len

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        sampling: Sampling = GREEDY,
        seeds: Sequence[int] | None = None,
        batch_rows: int = BATCH_ROWS,
    ) -> list[Completion]:
        """One completion a prompt, in order; ``seeds`` (default: the position) matter when sampling.

        A turn holds at most ``max_tokens`` and never leaves the context. UsageError for a prompt that
        is empty or leaves no room.
        """
        seeds = range(len(prompts)) if seeds is None else seeds
        assert len(seeds) == len(prompts)
        turns = [self._turn(prompt, max_tokens) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # equal lengths side by side
        for start in range(0, len(order), batch_rows):
            wave = order[start : start + batch_rows]
            chosen = [(prompts[i], turns[i], Random(seeds[i])) for i in wave]
            for _ in self._advance(chosen, max_tokens, sampling):
                pass
        return [
            Completion(
                turn.ids, turn.mask, turn.ended, turn.tool_calls, split_parts(self.tokenizer, turn.ids)
            )
            for turn in turns
        ]

    def stream(
        self, prompt: Sequence[int], *, max_tokens: int, sampling: Sampling = GREEDY, seed: int = 0
    ) -> Iterator[Piece]:
        """The pieces of one completion as they come; a character is never cut in two."""
        turn = self._turn(prompt, max_tokens)
        reader, kind, pending = PartReader(self.tokenizer), None, []
        for _, token in self._advance([(prompt, turn, Random(seed))], max_tokens, sampling):
            now = reader.read(token)
            if now != kind and kind is not None and pending:
                yield Piece(kind, self.tokenizer.decode(pending))
                pending = []
            kind = now
            if kind is not None:
                pending.append(token)
                text = self.tokenizer.decode(pending)
                if not text.endswith("\N{REPLACEMENT CHARACTER}"):
                    yield Piece(kind, text)
                    pending = []
        if kind is not None and pending:
            yield Piece(kind, self.tokenizer.decode(pending))

    def _turn(self, prompt: Sequence[int], max_tokens: int) -> Turn:
        room = room_after(prompt, self.context_tokens)
        return Turn(self.tokenizer, self._calculator, min(max_tokens, room))

    @torch.no_grad()  # not inference_mode: what the model caches here must stay usable in training
    def _advance(
        self, wave: list[tuple[Sequence[int], Turn, Random]], max_tokens: int, sampling: Sampling
    ) -> Iterator[tuple[int, int]]:
        """Run the turns of a wave to their ends, yielding (row, token) for every token appended."""
        longest = max(len(prompt) for prompt, _, _ in wave)
        cache = self.model.new_cache(len(wave), min(longest + max_tokens, self.context_tokens))
        active, logits_NV = self._read_prompts([prompt for prompt, _, _ in wave], cache)
        while True:
            draws_N = [wave[row][2].random() for row in active]
            if sampling.repetition_penalty != 1:
                for row, logits_V in zip(active, logits_NV, strict=True):
                    self._penalise(logits_V, wave[row], sampling.repetition_penalty)
            sampled = choose(logits_NV, sampling, draws_N)
            tokens = [wave[row][1].accept(token) for row, token in zip(active, sampled, strict=True)]
            yield from zip(active, tokens, strict=True)
            going = [(row, token) for row, token in zip(active, tokens, strict=True) if not wave[row][1].done]
            if not going:
                return
            active = [row for row, _ in going]
            logits_NV = self.model.decode(
                self._tensor([token for _, token in going]), cache, self._tensor(active)
            )

    def _penalise(self, logits_V: Tensor, row: tuple[Sequence[int], Turn, Random], penalty: float) -> None:
        prompt, turn, _ = row
        ordinary = self.tokenizer.special("bos")  # below it
        penalise(logits_V, {token for token in (*prompt, *turn.ids) if token < ordinary}, penalty)

    def _read_prompts(self, prompts: list[Sequence[int]], cache: KVCache) -> tuple[list[int], Tensor]:
        """Prefill every prompt into its row; (rows, logits_NV) in the order of the groups."""
        rows: list[int] = []
        logits: list[Tensor] = []
        by_length = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        for _, equal in groupby(by_length, key=lambda row: len(prompts[row])):
            group = list(equal)
            tokens_NT = self._tensor([list(prompts[row]) for row in group])
            logits.append(self.model.prefill(tokens_NT, cache, self._tensor(group)))
            rows += group
        return rows, torch.cat(logits)

    def _tensor(self, values: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.model.device)
