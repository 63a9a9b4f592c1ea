"""What a client asked as what the engine is asked."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from nanochat.engine.request import Request
from nanochat.engine.sampling import Sampling
from nanochat.serve.api.errors import ApiError
from nanochat.serve.api.schemas import Generation
from nanochat.serve.models import LoadedModel

_LEAST_TOP_P = 1e-6  # only the likeliest token, as OpenAI's 0 means


def engine_request(
    asked: Generation, model: LoadedModel, prompt: Sequence[int], max_tokens: int, *,
    logprobs: int | None, tools: bool,
) -> Request:  # fmt: skip
    """The request. ApiError for a token id that the model has not, and for a prompt that leaves no room."""
    bias = {int(token): value for token, value in (asked.logit_bias or {}).items()}
    if bias and max(bias) >= model.tokenizer.vocab_size:
        said = f"token {max(bias)} is beyond the vocabulary of {model.tokenizer.vocab_size}"
        raise ApiError(400, said, code="invalid_value", param="logit_bias")
    if len(prompt) >= model.context_tokens:
        said = f"the prompt has {len(prompt)} tokens, the context {model.context_tokens}: shorten it"
        raise ApiError(400, said, code="context_length_exceeded")
    return Request(
        prompt=tuple(prompt), max_tokens=max_tokens, sampling=sampling_of(asked),
        seed=secrets.randbits(31) if asked.seed is None else asked.seed,
        stop=asked.stops, logit_bias=bias, logprobs=logprobs, tools=tools,
    )  # fmt: skip


def sampling_of(asked: Generation) -> Sampling:
    """How tokens are chosen; OpenAI's temperature of 1 where nothing is said."""
    return Sampling(
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_k=asked.top_k or None,
        top_p=1.0 if asked.top_p is None else max(asked.top_p, _LEAST_TOP_P),
        min_p=asked.min_p or 0.0,
        repetition_penalty=asked.repetition_penalty or 1.0,
    )
