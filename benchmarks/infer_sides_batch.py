"""Many different prompts at once against the same ones one after the other, by the Scheduler; prints JSON.

    python benchmarks/infer_sides_batch.py MODEL_FOLDER [--prompts 16] [--prompt-tokens 256] [--tokens 128]

The prompts are random and share nothing, so no prefix is reused. Greedy and without tools.
"""

from __future__ import annotations

import argparse
import json
import queue
import time
from pathlib import Path
from random import Random
from typing import Any

from nanochat.engine.generate import Decoder
from nanochat.engine.request import Event, Failed, Finish, Request
from nanochat.engine.scheduler import Scheduler
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer


def measure(
    model: Decoder, tokenizer: Tokenizer, *, prompts: int = 16, prompt_tokens: int = 256, tokens: int = 128
) -> dict[str, Any]:
    """Generated tokens a second of both ways, prompts included in the time, and how often they agree."""
    requests = [_request(tokenizer, seed, prompt_tokens, tokens) for seed in range(prompts)]
    warm = _request(tokenizer, -1, prompt_tokens, 4)
    with Scheduler(model, tokenizer, slots=1) as scheduler:
        _answers(scheduler, [warm])
        before = time.perf_counter()
        alone = [_answers(scheduler, [request])[0] for request in requests]
        alone_s = time.perf_counter() - before
    with Scheduler(model, tokenizer, slots=prompts, queue=prompts) as scheduler:
        _answers(scheduler, [warm] * prompts)
        before = time.perf_counter()
        together = _answers(scheduler, requests)
        together_s = time.perf_counter() - before
    generated = sum(count for _, count in alone)
    return {
        "prompts": prompts,
        "prompt_tokens": prompt_tokens,
        "generated_tokens": generated,
        "one_after_the_other_tokens_per_s": generated / alone_s,
        "at_once_tokens_per_s": sum(count for _, count in together) / together_s,
        "speedup": sum(count for _, count in together) / together_s * alone_s / generated,
        "equal_answers": sum(a == b for a, b in zip(alone, together, strict=True)),
    }


def _request(tokenizer: Tokenizer, seed: int, prompt_tokens: int, tokens: int) -> Request:
    rng = Random(seed)
    ordinary = tokenizer.vocab_size - len(SPECIAL_TOKENS)
    prompt = tuple(rng.randrange(ordinary) for _ in range(prompt_tokens))
    return Request(prompt, tokens, tools=False)


def _answers(scheduler: Scheduler, requests: list[Request]) -> list[tuple[str, int]]:
    """The text of each answer and its number of tokens, all submitted at once."""
    heard: queue.Queue[tuple[int, Event]] = queue.Queue()
    for number, request in enumerate(requests):
        scheduler.submit(request, lambda event, number=number: heard.put((number, event)))
    texts, counts = [""] * len(requests), [0] * len(requests)
    while not all(counts):
        number, event = heard.get(timeout=600)
        if isinstance(event, Failed):
            raise RuntimeError(event.message)
        if isinstance(event, Finish):
            counts[number] = event.usage.completion_tokens
        else:
            texts[number] += event.text
    return list(zip(texts, counts, strict=True))


def main() -> None:
    from nanochat.engine.model_folder import open_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    model, tokenizer = open_model(options.model)
    found = measure(
        model, tokenizer, prompts=options.prompts, prompt_tokens=options.prompt_tokens, tokens=options.tokens
    )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
