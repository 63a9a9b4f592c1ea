"""One request from its submission to its end: what the model must read next, and what the listener hears."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from time import monotonic

import torch
from torch import Tensor

from artifacts.errors import UsageError
from nanochat.engine.answer import Answer
from nanochat.engine.request import Delta, Event, Failed, Finish, FinishReason, Request, TokenLogprob, Usage
from nanochat.engine.sampling import add_bias, penalise
from nanochat.engine.turn import Calculator, Turn, room_after
from nanochat.tokenizer.tokenizer import Tokenizer

Listener = Callable[[Event], None]


class Row:
    """Raises UsageError for a request that cannot be answered.

    ``unread``: tokens that the model has not read yet; when it has, the next one is chosen.
    ``cancelled`` may be set by any thread, all else belongs to the scheduler's.
    """

    def __init__(
        self,
        request: Request,
        listener: Listener,
        tokenizer: Tokenizer,
        calculator: Calculator,
        context_tokens: int,
    ) -> None:
        _check(request, tokenizer.vocab_size)
        limit = min(request.max_tokens, room_after(request.prompt, context_tokens))
        self.request, self._listener, self._tokenizer = request, listener, tokenizer
        self.turn = Turn(tokenizer, calculator if request.tools else None, limit)
        self._answer = Answer(tokenizer, request.stop)
        self._random = Random(request.seed)
        self.unread = list(request.prompt)
        self.cached_tokens = 0
        self.cancelled = False
        self._submitted = monotonic()
        self._admitted: float | None = None
        self._first_token: float | None = None
        self._ordinary = tokenizer.special("bos")  # ids below it are ordinary ones
        self._seen = self._ordinary_of(request.prompt) if request.sampling.repetition_penalty != 1 else None
        self.edits = self._seen is not None or bool(request.logit_bias)

    @property
    def reason(self) -> FinishReason | None:
        """Why the answer has come to its end, if it has."""
        if self._answer.stopped or self.turn.ended:
            return "stop"
        if self.turn.done:
            return "length" if self.turn.full else "stop"
        if self.cancelled:
            return "cancelled"
        deadline = self.request.deadline_s
        if deadline is not None and monotonic() - self._submitted >= deadline:
            return "deadline"
        return None

    def admit(self, cached_tokens: int) -> None:
        """A slot is found, which holds the first tokens of the prompt already."""
        self._admitted = monotonic()
        self.cached_tokens = cached_tokens
        del self.unread[:cached_tokens]

    def edit(self, logits_V: Tensor) -> None:
        """Apply what the request wants changed about the logits, in place."""
        if self._seen is not None:
            penalise(logits_V, self._seen, self.request.sampling.repetition_penalty)
        if self.request.logit_bias:
            add_bias(logits_V, self.request.logit_bias)

    def draw(self) -> float:
        """The random number for the next token."""
        return self._random.random()

    def accept(self, sampled: int, logits_V: Tensor) -> None:
        """Append the token that was chosen by the model's ``logits_V``, and what a tool adds after it."""
        assert not self.unread
        if self._first_token is None:
            self._first_token = monotonic()
        logprob = self._logprob(sampled, logits_V) if self.request.logprobs is not None else None
        self.turn.accept(sampled)
        forced = self.turn.take_forced()
        self.unread = [sampled, *forced]
        if self._seen is not None:
            self._seen |= self._ordinary_of(self.unread)
        self._tell(self._answer.read(sampled, logprob))
        for token in forced:
            self._tell(self._answer.read(token))

    def finish(self, reason: FinishReason) -> None:
        """Say the rest of the text, and that this is the end."""
        self.unread = []
        self._tell(self._answer.close(cut=reason != "stop"))
        now = monotonic()
        admitted = now if self._admitted is None else self._admitted
        first = now if self._first_token is None else self._first_token
        usage = Usage(len(self.request.prompt), len(self.turn.ids), self.cached_tokens)
        seconds = (time - self._submitted for time in (admitted, first, now))
        self._listener(Finish(reason, usage, *seconds))

    def fail(self, message: str) -> None:
        """Say that there is no (whole) answer."""
        self.unread = []
        self._listener(Failed(message))

    @property
    def running_s(self) -> float:
        """Seconds since its admission."""
        return 0.0 if self._admitted is None else monotonic() - self._admitted

    def _tell(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            self._listener(delta)

    def _ordinary_of(self, tokens: list[int] | tuple[int, ...]) -> set[int]:
        return {token for token in tokens if token < self._ordinary}

    def _logprob(self, token: int, logits_V: Tensor) -> TokenLogprob:
        """Of the model itself, before temperature, penalty and bias."""
        logprobs_V = logits_V.float().log_softmax(dim=-1)
        top = torch.topk(logprobs_V, min(self.request.logprobs or 0, len(logprobs_V)))
        likeliest = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        return TokenLogprob(
            token,
            self._tokenizer.decode_bytes([token]),
            float(logprobs_V[token]),
            tuple((id_, self._tokenizer.decode_bytes([id_]), value) for id_, value in likeliest),
        )


def _check(request: Request, vocab_size: int) -> None:
    if request.max_tokens < 1:
        raise UsageError(f"an answer of {request.max_tokens} tokens", "at least 1")
    for what, ids in (("the prompt", request.prompt), ("logit_bias", request.logit_bias)):
        if wrong := [id_ for id_ in ids if not 0 <= id_ < vocab_size]:
            raise UsageError(f"{what} has the token {wrong[0]}", f"ids go from 0 to {vocab_size - 1}")
    if not all(request.stop):
        raise UsageError("an empty stop string", "leave it out")
