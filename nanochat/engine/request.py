"""What crosses the border of the engine: a request in, events out.

A request is token ids and how to continue them. Its answer is a stream of ``Delta``, complete characters of
one kind each, then one ``Finish``; or a ``Failed`` in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nanochat.engine.sampling import GREEDY, Sampling
from nanochat.engine.turn import Kind

FinishReason = Literal["stop", "length", "cancelled", "deadline"]


@dataclass(frozen=True)
class Request:
    """Continue ``prompt``, of at least one token, by at most ``max_tokens``.

    ``stop``: texts that end the answer and are not part of it. ``logprobs``: for how many of the likeliest
    tokens beside the chosen one the log-probability is wanted, None for no log-probabilities at all.
    ``tools``: run the calculator where the model calls it. ``deadline_s``: seconds from submission, waiting
    included, after which the answer ends where it is.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = GREEDY
    seed: int = 0
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    tools: bool = True
    deadline_s: float | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """One token of an answer: its id, its bytes, ln p, and the likeliest ones at its place, best first."""

    token: int
    bytes: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()


@dataclass(frozen=True)
class Delta:
    """What a step adds to an answer; ``text`` may be empty where only ``logprobs`` came."""

    kind: Kind
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer; ``cached_tokens`` of the prompt were still in the cache and not read again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class Finish:
    """How an answer ended. Seconds are from submission: to admission, to the first token, to the end."""

    reason: FinishReason
    usage: Usage
    waited_s: float
    first_token_s: float
    total_s: float


@dataclass(frozen=True)
class Failed:
    """The engine could not answer, by a fault of ours; one line."""

    message: str


Event = Delta | Finish | Failed
